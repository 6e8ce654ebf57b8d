"""The whole stage on a small real data set with lost clips and an untrained encoder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import restrict
from pipeline.data.load.evaluation_clips import evaluation_batches
from pipeline.data.records import ChunkManifest
from pipeline.data.shards import index_stage, shard_stage
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import stage
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.method.pixels import normalise
from pipeline.method.pooling import Pooled
from pipeline.report.results import Details, Score, Skipped
from pipeline.runtime.files import read_json, sha256_file, write_json
from pipeline.weights import hub

from ..conftest import RUN, SIZES, scores_of, with_benchmark

VOLATILE = {"seconds", "provenance", "cost"}


@pytest.fixture
def files(workplace: Path, params: Params) -> RunLayout:
    return RunLayout(params.name, RUN)


def evaluate(params: Params, files: RunLayout) -> dict[str, Any]:
    """Run the stage with the settings that it declares to read, and no others."""
    stage.run(BENCHMARKS["evaluation"], restrict(params, "evaluate", RUN), RUN)
    body: dict[str, Any] = read_json(files.result("evaluation"))
    return body


def read_predictions(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_scores_are_those_of_the_predictions(params: Params, files: RunLayout) -> None:
    """Catches scores that nobody can recompute: from `predictions.csv` they come out again. And
    hashes, counts and lost clips that are not those of the files."""
    left = [files.folder / f".evaluation.0123abcd.tmp{end}" for end in (".json", ".parquet")]
    for path in left:
        path.touch()
    body = evaluate(params, files)
    assert [path.exists() for path in left] == [False, True], "the second is of nobody's"
    rows = read_predictions(files.predictions)
    assert [(score["label"], score["probe"]) for score in body["scores"]] == [
        ("colour", "linear"),
        ("colour", "knn"),
    ]
    for score in body["scores"]:
        mine = [row for row in rows if row["probe"] == score["probe"]]
        named = [[row[f"predicted_{k}"] for k in range(1, 6)] for row in mine]
        right = [row["true"] == names[0] for row, names in zip(mine, named, strict=True)]
        assert score["top1"] == np.mean(right) > 0.9  # colours are easy
        assert score["top5"] is None  # of three classes
        assert score["scored"] == len(mine) == SIZES["test"] - 1  # one has no label
        assert score["of"] == SIZES["test"] + 1  # one is lost
        assert score["missing"] == ["lost-test"]
        assert (score["classes"], score["train_clips"]) == (3, SIZES["train"])
    assert body["census"] == {"ok": sum(SIZES.values()), "corrupt": 2}
    assert body["inputs"] == {
        "index": sha256_file(DataLayout(params.data.name).index),
        "weights": sha256_file(files.weights),
    }
    assert body["outputs"]["predictions"] == sha256_file(files.predictions)
    assert body["outputs"]["features"] == sha256_file(files.features)
    assert body["scores"][0]["chosen"]["chosen_on"] == "val"
    assert body["provenance"]["packages"]["scikit-learn"]


def test_the_next_encoder_decodes_nothing(
    params: Params, files: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches clips that every run of an experiment decodes for itself, and views that are not
    those which were decoded."""
    first = evaluate(params, files)
    before = dict(np.load(files.features))
    files.features.unlink()
    shutil.rmtree(files.probing)
    monkeypatch.setattr("pipeline.data.load.clip_reader.read", None)  # whoever decodes fails
    assert evaluate(params, files)["scores"] == first["scores"]
    after = np.load(files.features)
    for split in SIZES:
        assert np.array_equal(before[f"{split}_features"], after[f"{split}_features"])


def test_features_are_of_the_tubes_that_change_where_that_is_asked(
    params: Params, files: RunLayout
) -> None:
    """Catches a setting that the cache does not know, probes that answer from other features, and
    benchmarks on these features that take others (`order`: `train` backward is pooled alike)."""
    evaluation = params.evaluation.model_copy(update={"drop_tubes": 0.7})
    dropped = params.model_copy(update={"evaluation": evaluation})
    evaluate(params, files)
    plain = dict(np.load(files.features))
    evaluate(dropped, files)
    found = dict(np.load(files.features))
    order = {"linear": evaluation.linear, "seed": 0, "direction_clips": None}
    with_order = with_benchmark(dropped, "order", order)
    scores_of("order", with_order)
    reordered = dict(np.load(files.scores_folder / "order.npz"))
    encoder = hub.load(files.weights).encoder
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["test"])
    (batch,) = evaluation_batches(entries, params.data.clip, evaluation.views, len(entries))
    shown = {"": batch.videos[:, 0], "reversed_": batch.videos[:, 0].flip(1)}
    for way, videos in shown.items():
        with torch.no_grad():
            expected = Pooled(encoder, 0.7)(normalise(videos)).numpy()
        mine = (reordered if way else found)[f"{way or 'test_'}features"][:, 0]
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found["test_features"], plain["test_features"], atol=1e-3)
    assert json.loads(str(plain["key"]))["pooling"] == "mean over tubes"
    evaluate(params, files)
    assert np.array_equal(np.load(files.features)["test_features"], plain["test_features"])


def test_the_report_can_read_it(params: Params, files: RunLayout) -> None:
    """Catches a renamed field, or a value JSON does not have (NaN), between this stage and the
    report."""
    evaluate(params, files)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    body = json.loads(files.result("evaluation").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [Score.model_validate(row).top1 for row in body["scores"]]
    assert [Skipped.model_validate(row).clips for row in body["skipped"]] == [1, 1]
    (details,) = (Details.model_validate(row) for row in body["details"])
    assert sum(map(sum, details.confusion)) == SIZES["test"] - 1


def test_again_gives_the_same(params: Params, files: RunLayout) -> None:
    """Catches scores that change from run to run, with features reused or computed anew."""
    first = evaluate(params, files)
    second = evaluate(params, files)
    files.features.unlink()
    third = evaluate(params, files)
    for body in (first, second, third):
        assert body.keys() >= VOLATILE
        for key in VOLATILE:
            del body[key]
    assert first == second == third


def test_batch_size_changes_nothing(params: Params, files: RunLayout) -> None:
    """Catches a score that depends on how clips were batched."""
    first = evaluate(params, files)
    files.features.unlink()
    evaluation = params.evaluation.model_copy(update={"batch_size": 45})
    second = evaluate(params.model_copy(update={"evaluation": evaluation}), files)
    assert first["scores"] == second["scores"]


def test_labels_that_are_missing(params: Params, files: RunLayout) -> None:
    """Catches a stage that fails, or a table without a word, where nothing can be probed."""
    data = params.data.model_copy(update={"labels": ("colour", "taste")})
    body = evaluate(params.model_copy(update={"data": data}), files)
    assert {score["label"] for score in body["scores"]} == {"colour"}
    taste = [note for note in body["skipped"] if note["label"] == "taste"]
    assert [(note["probe"], note["clips"]) for note in taste] == [("linear", 0), ("knn", 0)]
    assert all("no clip has a label 'taste'" in note["reason"] for note in taste)


def test_a_changed_data_set_is_noticed(params: Params, files: RunLayout) -> None:
    """Catches features of the data set's earlier state in the scores of the present one."""
    evaluate(params, files)
    layout = DataLayout(params.data.name)
    manifest = ChunkManifest.read(layout.decoded(0))
    kept = [clip for clip in manifest.clips if clip.id != "test-01"]
    ChunkManifest(stage="decode", chunk=0, clips=kept).write(layout.decoded(0))
    shard_stage.run(params, 0)
    index_stage.run(params)
    body = evaluate(params, files)
    assert {score["scored"] for score in body["scores"]} == {SIZES["test"] - 2}
    assert "test-01" not in {row["id"] for row in read_predictions(files.predictions)}


def test_features_of_other_code_are_computed_anew(
    params: Params,
    files: RunLayout,
    capsys: pytest.CaptureFixture[str],
    edit_source: Callable[[str], None],
) -> None:
    """Catches features or answers of older code in the scores of the present one, and either being
    made again for code that they do not depend on."""
    evaluate(params, files)
    edit_source("pipeline/training/loop.py")  # not of this stage
    capsys.readouterr()
    evaluate(params, files)
    out = capsys.readouterr().out
    assert "reusing" in out
    assert out.count("as answered before") == 4, "two probes, and the two baselines"
    edit_source("pipeline/evaluation/recognition/knn.py")
    evaluate(params, files)
    out = capsys.readouterr().out
    assert "reusing" in out
    assert "linear: as answered before" in out
    assert "knn: as answered before" not in out
    edit_source("pipeline/method/vit.py")
    evaluate(params, files)
    out = capsys.readouterr().out
    assert "reusing" not in out
    assert "as answered before" not in out


def test_weights_that_nobody_vouches_for(params: Params, files: RunLayout) -> None:
    """Catches scores of weights other than those whose origin pretrain.json records."""
    write_json(files.pretrained, {"model_sha256": "0" * 64})
    with pytest.raises(UserError, match="not those") as caught:
        evaluate(params, files)
    assert "pretrain --run random" in caught.value.remedy
    assert not files.result("evaluation").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_damaged_pretrain_manifest(params: Params, files: RunLayout, text: str) -> None:
    """Catches a traceback for a file that was cut short."""
    files.pretrained.write_text(text)
    with pytest.raises(UserError, match="not the manifest") as caught:
        evaluate(params, files)
    assert caught.value.place == str(files.pretrained)


def test_a_run_that_does_not_exist_yet(params: Params, files: RunLayout) -> None:
    """Catches a traceback where a stage is called before the one that it builds on."""
    files.weights.unlink()
    with pytest.raises(UserError, match="has not been pretrained"):
        evaluate(params, files)
    shutil.rmtree(files.folder)
    with pytest.raises(UserError, match="has not been pretrained"):
        evaluate(params, files)


def test_an_index_without_splits_of_lost_clips(params: Params, files: RunLayout) -> None:
    """Catches scores that quietly count fewer rows because nothing says which split lost them."""
    path = DataLayout(params.data.name).index
    index = read_json(path)
    assert {clip.pop("split") for clip in index["lost"]} >= {"test"}
    write_json(path, index)
    with pytest.raises(UserError, match="lost clips") as caught:
        evaluate(params, files)
    assert caught.value.remedy == "python -m pipeline index"


def test_weights_of_another_clip(params: Params, files: RunLayout) -> None:
    """Catches a traceback where the configured clip is not of the shape the model was made for."""
    data = params.data.model_copy(
        update={"clip": params.data.clip.model_copy(update={"frames": 8})}
    )
    with pytest.raises(UserError, match="4 frames"):
        evaluate(params.model_copy(update={"data": data}), files)
