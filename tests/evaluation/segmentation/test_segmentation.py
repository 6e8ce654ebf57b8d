"""The whole stage on a small embedded data set and on a folder, with an untrained encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import MaskFolder, Params
from pipeline.data import synthetic
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.encoder import for_frames
from pipeline.evaluation.segmentation import scores, sources
from pipeline.runtime.files import read_json, sha256_file, write_json
from pipeline.runtime.interruption import ResumeLater
from pipeline.weights import hub

from ..conftest import EMBEDDED, RUN, scores_of
from .test_folders import write_video


def changed(params: Params, **settings: Any) -> Params:
    return params.model_copy(
        update={"segmentation": params.segmentation.model_copy(update=settings)}
    )


segment = partial(scores_of, "segmentation")


@pytest.fixture
def params(embedded: Path, embedded_params: Params) -> Params:
    return embedded_params


def test_scores_are_the_means_of_the_clips(params: Params) -> None:
    """Means over other clips than are told, hashes of other files, pictures that are not there,
    and a lost test clip that is not missed."""
    index = DataLayout(params.data.name).index
    body = read_json(index)
    lost = {"id": "test-99999", "split": "test", "outcome": "corrupt", "reason": "x", "stage": "y"}
    write_json(index, {**body, "lost": [lost]})
    found = segment(params)
    files = RunLayout(params.name, RUN)
    table = pq.read_table(files.rows("segmentation")).to_pylist()
    keys = [(row["frames"], row["protocol"]) for row in found["scores"]]
    assert keys == [(f, p) for f in (8, 4) for p in ("clustering", "over_clustering")]
    for row in found["scores"]:
        mine = [line for line in table if line["frames"] == row["frames"]]
        values = [line[row["protocol"]] for line in mine if line["outcome"] == "ok"]
        assert row["miou"] == pytest.approx(np.mean(values), abs=1e-12)
        assert row["standard_error"] == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5)
        assert (row["scored"], row["of"]) == (EMBEDDED["test"], EMBEDDED["test"] + 1)
        assert (row["missing"], row["missing_clips"]) == (["test-99999"], 1)
        assert 0 < row["one_segment"] < row["miou"] < 1  # even untrained tokens show the digit
    assert found["census"]["embedded, 8 frames"] == {"ok": EMBEDDED["test"], "corrupt": 1}
    assert found["inputs"]["weights"] == sha256_file(files.weights)
    assert found["inputs"]["embedded"] == sha256_file(index)
    assert found["outputs"]["clips"] == sha256_file(files.rows("segmentation"))
    assert len(found["pictures"]) == params.segmentation.pictures
    for picture in found["pictures"]:
        with Image.open(files.folder / picture["file"]) as image:
            assert image.height == pytest.approx(4 * 96, abs=8)  # four rows: scores.ROWS


def test_an_interrupted_job_goes_on(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed job that begins from the first clip, or ends with other numbers."""
    whole = segment(params)
    calls: list[str] = []
    score = scores.score_clip

    def until_killed(clip: sources.MaskedClip, *rest: Any) -> Any:
        if len(calls) == EMBEDDED["test"] + 2:
            raise ResumeLater("SIGTERM", "here")
        calls.append(clip.id)
        return score(clip, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_clip", until_killed)
        with pytest.raises(SystemExit):
            segment(params)
        done = list(calls)
        patch.setattr(scores, "score_clip", lambda *a: calls.append(a[0].id) or score(*a))
        assert segment(params) == whole
    assert len(done) == EMBEDDED["test"] + 2
    assert len(calls) == 2 * EMBEDDED["test"]


@pytest.mark.system
def test_workers_and_processes_change_no_number(params: Params) -> None:
    """Scores that depend on how many processes read the clips, and how many cluster them."""
    few = changed(params, frames=(8,), pictures=0)
    whole = segment(few)
    trainer = params.runs[RUN].trainer.model_copy(update={"workers": 1})
    runs = {RUN: params.runs[RUN].model_copy(update={"trainer": trainer})}
    many = changed(few, processes=2).model_copy(update={"runs": runs})
    found = segment(many)
    assert found["scores"] == whole["scores"]
    assert found["outputs"] == whole["outputs"]


@pytest.mark.parametrize("kind", ["dense", "per_segment"])
def test_masks_lie_where_the_frames_show_the_digit(params: Params, kind: str) -> None:
    """Masks of another clip or moment than the frames that were decoded from the shards; other
    frames than training samples."""
    assert params.data.synthetic is not None
    entries = DatasetIndex.load(DataLayout(params.data.name).shards).clips(["test"])
    seen = params.data.clip.model_copy(update={"sampling": kind})
    source = sources.EmbeddedSource("embedded", entries, params.data.synthetic, seen)
    for place in range(len(entries)):
        for frames in (8, 4):
            clip = source.clip(place, frames, 32, 32)
            assert isinstance(clip, sources.MaskedClip)
            drawn = synthetic.render(source.settings, *synthetic.parse_id(clip.id)).masks
            assert len(drawn) == 10
            if frames == 4:
                chosen = [3, 4, 5, 6] if kind == "dense" else [1, 3, 6, 8]
                assert np.array_equal(clip.masks, drawn[chosen])
            grey = clip.frames.mean(axis=3)
            for picture, mask in zip(grey, clip.masks, strict=True):
                bright = picture > (picture.max() + picture.min()) / 2  # the digit is the lighter
                assert (bright == (mask == 1)).mean() > 0.95


def test_a_folder_of_masks_is_scored_with_its_losses(params: Params, tmp_path: Path) -> None:
    """A data set of one's own that needs more than its folders, or whose bad videos vanish."""
    root = tmp_path / "DAVIS"
    for name in ("bear", "swan", "empty"):
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, 9)
    (root / "JPEGImages/480p/swan/00003.jpg").write_bytes(b"")
    for mask in (root / "Annotations/480p/empty").iterdir():
        Image.new("P", (40, 24)).save(mask)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\nswan\nempty\ngone\n")
    data = MaskFolder(name="DAVIS", kind="davis2017", root=str(root), split="val")
    found = segment(changed(params, data=(data,), frames=(8,)))
    assert found["census"] == {
        "DAVIS, 8 frames": {"ok": 1, "corrupt": 1, "missing": 1, "no_object": 1}
    }
    for row in found["scores"]:
        assert (row["scored"], row["of"], row["kind"]) == (1, 4, "davis2017")
        assert row["missing"] == ["empty", "gone", "swan"]
        assert row["miou"] > row["one_segment"]


def test_data_without_masks_is_skipped_and_wrong_weights_refused(params: Params) -> None:
    """A table that fails for every data set of one's own, and scores of weights nobody knows."""
    other = params.model_copy(update={"data": params.data.model_copy(update={"synthetic": None})})
    found = segment(other)
    assert found["scores"] == []
    assert "not known" in found["skipped"][0]["reason"]
    files = RunLayout(params.name, RUN)
    files.weights.write_bytes(files.weights.read_bytes() + b"\0")
    with pytest.raises(UserError, match="not those"):
        segment(params)


def test_a_shorter_clip_has_the_positions_of_a_longer_ones_beginning(params: Params) -> None:
    """Positions that are new to the encoder, or an encoder that is changed for good."""
    encoder = hub.load(RunLayout(params.name, RUN).weights).encoder
    assert for_frames(encoder, 8) is encoder
    short = for_frames(encoder, 4)
    assert (encoder.grid.frames, short.grid.frames) == (4, 2)
    assert short.positions.equal(encoder.positions[: short.grid.count])
    with pytest.raises(UserError, match="does not divide"):
        for_frames(encoder, 3)
