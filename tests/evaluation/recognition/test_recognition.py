"""Benchmark I as a whole: every probe on a small real data set, its files, leaks and resumption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Evaluation, ImageSet, Params, Views
from pipeline.configuration.stages import restrict
from pipeline.data.records import ChunkManifest
from pipeline.data.shards import index_stage, shard_stage
from pipeline.evaluation import finetune, stage
from pipeline.evaluation.recognition import attentive, knn, linear
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report.results import Score
from pipeline.runtime.files import read_json

from ..conftest import RUN, SIZES
from ..test_finetune import SETTINGS
from .test_heads import ATTENTIVE
from .test_images import cifar

PROBES = ["linear", "attentive", "knn", "finetune"]


@pytest.fixture
def files(workplace: Path, params: Params) -> RunLayout:
    return RunLayout(params.name, RUN)


@pytest.fixture
def everything(params: Params) -> Evaluation:
    """All probes, and two views of each test clip; without baselines, which ask the linear one."""
    tuned = SETTINGS.model_copy(update={"epochs": 6, "views": Views(segments=2, crops=1)})
    attending = ATTENTIVE.model_copy(update={"epochs": 8, "rates": (0.2,), "batch_size": 12})
    changes = {
        "baselines": False,
        "finetune": tuned,
        "attentive": attending,
        "views": Views(segments=2, crops=3),
        "knn": params.evaluation.knn.model_copy(update={"k": (1, 3, 5)}),  # type: ignore[union-attr]
    }
    return params.evaluation.model_copy(update=changes)


def evaluate(params: Params, evaluation: Evaluation, files: RunLayout) -> dict[str, Any]:
    changed = params.model_copy(update={"evaluation": evaluation})
    stage.run(BENCHMARKS["evaluation"], restrict(changed, "evaluate", RUN), RUN)
    body: dict[str, Any] = read_json(files.result("evaluation"))
    return body


def table(files: RunLayout) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[str]]]]:
    found = pq.read_table(files.scores)
    return found.to_pylist(), json.loads(found.schema.metadata[b"classes"])


def test_any_metric_can_be_computed_from_the_scores(
    params: Params, everything: Evaluation, files: RunLayout
) -> None:
    """Catches a probe that does not run, a column of scores under another class's name, and shares
    that differ from scikit-learn's and torchmetrics' on the same scores."""
    body = evaluate(params, everything, files)
    rows, classes = table(files)
    assert [row["probe"] for row in body["scores"]] == PROBES
    for row in body["scores"]:
        assert Score.model_validate(row).top1 > 0.8, row["probe"]
        mine = [each for each in rows if each["probe"] == row["probe"]]
        assert len(mine) == row["scored"] == SIZES["test"] - 1
        names = classes["colour"][row["probe"]]
        scores = np.array([each["scores"] for each in mine])
        truth = np.array([names.index(each["true"]) for each in mine])
        finite = np.where(np.isfinite(scores), scores, -1e9)
        assert row["top1"] == top_k_accuracy_score(truth, finite, k=1, labels=range(len(names)))
        theirs = multiclass_accuracy(
            torch.tensor(finite), torch.tensor(truth), len(names), average="micro"
        )
        assert row["top1"] == pytest.approx(float(theirs))
        np.testing.assert_allclose(np.exp(scores).sum(1), 1, atol=1e-5)
    (chosen,) = (row["chosen"] for row in body["scores"] if row["probe"] == "knn")
    assert [k for k, _ in chosen["tried"]] == [1, 3, 5] == [k for k, _ in chosen["top1_by_k"]]


def test_an_evaluation_goes_on_where_it_stopped(
    params: Params,
    everything: Evaluation,
    files: RunLayout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a probe that is asked again after an interruption or for another one's setting, an
    old answer for a new setting, and checkpoints that pile up."""
    asked: list[str] = []

    def count(module: Any, name: str) -> Callable[..., Any]:
        plain = getattr(module, name)

        def counted(*arguments: Any, **more: Any) -> Any:
            asked.append(module.__name__.rpartition(".")[2])
            if broken and module is knn:
                raise KeyboardInterrupt
            return plain(*arguments, **more)

        return counted

    for module, name in (
        (linear, "predict"),
        (attentive, "tokens"),
        (knn, "predict"),
        (finetune, "fit"),
    ):
        monkeypatch.setattr(module, name, count(module, name))
    broken = True
    with pytest.raises(KeyboardInterrupt):
        evaluate(params, everything, files)
    assert asked == ["linear", "attentive", "knn"]
    assert not files.result("evaluation").exists()
    broken = False
    asked.clear()
    first = evaluate(params, everything, files)
    assert asked == ["knn", "finetune"]
    assert "as answered before" in capsys.readouterr().out
    assert not list(files.probing.rglob("*.pt"))
    asked.clear()
    other = everything.model_copy(
        update={"knn": everything.knn.model_copy(update={"k": (3,)})}  # type: ignore[union-attr]
    )
    second = evaluate(params, other, files)
    assert asked == ["knn"]
    scores = [[row for row in body["scores"] if row["probe"] != "knn"] for body in (first, second)]
    assert scores[0] == scores[1]


def test_labels_of_test_clips_reach_no_probe(
    params: Params, everything: Evaluation, files: RunLayout
) -> None:
    """Catches a leak: with each other's labels on the test clips, every probe answers the same."""
    evaluate(params, everything, files)
    before, _ = table(files)
    layout = DataLayout(params.data.name)
    manifest = ChunkManifest.read(layout.decoded(0))
    turned = {"red": "green", "green": "blue", "blue": "red"}
    clips = [
        clip.model_copy(update={"labels": {n: turned[v] for n, v in clip.labels.items()}})
        if clip.split == "test"
        else clip
        for clip in manifest.clips
    ]
    ChunkManifest(stage="decode", chunk=0, clips=clips).write(layout.decoded(0))
    shard_stage.run(params, 0)
    index_stage.run(params)
    body = evaluate(params, everything, files)
    after, _ = table(files)
    assert [row["id"] for row in before] == [row["id"] for row in after]
    for old, new in zip(before, after, strict=True):
        assert new["true"] == turned[old["true"]]
        np.testing.assert_allclose(new["scores"], old["scores"], atol=1e-4)
    assert max(row["top1"] for row in body["scores"]) < 0.2


def test_images_stand_beside_the_videos(
    params: Params, files: RunLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an image data set that is not scored, or whose features are the videos'; and features
    that are computed again each time."""
    cifar(Path("cifar"))
    images = ImageSet(name="cifar100", format="cifar100", folder="cifar")
    evaluation = params.evaluation.model_copy(update={"images": (images,), "baselines": False})
    body = evaluate(params, evaluation, files)
    said = [(row["label"], row["probe"]) for row in body["scores"] + body["skipped"]]
    assert ("cifar100", "linear") in said
    assert (files.folder / "features-cifar100.npz").is_file()
    capsys.readouterr()
    evaluate(params, evaluation, files)
    assert capsys.readouterr().out.count("reusing") == 2


def test_a_clip_that_cannot_be_read_any_more(
    params: Params, files: RunLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches scores over fewer clips that do not say which one is missing."""
    shard = next(DataLayout(params.data.name).shards.glob("test-*.tar"))
    lines = shard.with_suffix(".clips.jsonl").read_text().splitlines()
    entry = next(body for body in map(json.loads, lines) if body["id"] == "test-05")
    content = bytearray(shard.read_bytes())
    content[entry["offset"] : entry["offset"] + entry["size"]] = bytes(entry["size"])
    shard.write_bytes(content)
    evaluation = params.evaluation.model_copy(update={"on_failure": "report"})
    body = evaluate(params, evaluation, files)
    for row in body["scores"]:
        assert row["scored"] == SIZES["test"] - 2  # one has no label
        assert row["missing"] == ["lost-test", "test-05"]
    assert f"scored {SIZES['test'] - 2}/{SIZES['test']}, missing: lost-test, test-05" in (
        capsys.readouterr().out
    )
