"""Masks that features carry: of known features, and as a stage with an untrained encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.propagation import carry, job
from pipeline.evaluation.propagation.scores import score_objects
from pipeline.evaluation.propagation.settings import VIEWS, Propagation, View
from pipeline.evaluation.propagation.table import table
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.method.tubes import TubeGrid
from pipeline.runtime.files import sha256_file
from pipeline.runtime.interruption import ResumeLater

from ..conftest import EMBEDDED, RUN, scores_of, with_benchmark
from ..segmentation.test_folders import write_video
from .test_measures import blobs

GRID = (12, 16)
PLAIN: dict[str, Any] = {
    "data": [{"name": "embedded", "kind": "embedded"}],
    "views": ["still", "clip"],
    "memory": 7,
    "neighbourhood": 12,
    "neighbours": 5,
    "temperature": 0.1,
    "pictures": 2,
}
SETTINGS = Propagation.model_validate(PLAIN)


def jf(truth: NDArray[np.uint8], answer: NDArray[np.uint8]) -> float:
    return float(np.mean([each.jf for each in score_objects(truth, answer, (1, 2))]))


def test_masks_are_carried_by_features_that_know_them_and_by_no_others() -> None:
    """Catches labels of another tube, a frame of another time, and rows taken for columns: features
    that say what is where come near the limit of the grid; the same in random order do not."""
    truth = blobs(0, 96, 128)
    labels = [0, 1, 2]
    tokens = torch.stack([carry.shares(mask, labels, GRID) for mask in truth])
    limit = np.stack([carry.enlarged(each, labels, GRID, truth.shape[1:]) for each in tokens])
    found = carry.carried(tokens, truth[0], GRID, SETTINGS)
    assert found.shape == truth.shape
    assert (found[0] == truth[0]).all()
    assert jf(truth, limit) > 0.8
    assert jf(truth, found) > 0.9 * jf(truth, limit)
    order = torch.randperm(len(tokens[0]), generator=torch.Generator().manual_seed(0))
    shuffled = torch.stack([tokens[0], *tokens[1:, order]])
    assert jf(truth, carry.carried(shuffled, truth[0], GRID, SETTINGS)) < 0.3


def test_an_object_is_carried_under_its_own_number() -> None:
    """Catches numbers that are counted anew, void that is an object, and labels that are lost where
    an object is smaller than a tube."""
    first = np.zeros((96, 128), np.uint8)
    first[8:40, 8:40], first[60:63, 100:103], first[80:, :] = 7, 3, 255
    assert carry.objects(first) == [3, 7]
    tokens = torch.randn(1, GRID[0] * GRID[1], 32).expand(3, -1, -1)
    found = carry.carried(tokens, first, GRID, SETTINGS.model_copy(update={"neighbours": 1}))
    assert [sorted(np.unique(mask)) for mask in found[1:]] == [[0, 3, 7]] * 2
    assert (found[1][12:36, 12:36] == 7).all()


@pytest.mark.parametrize("view", VIEWS)
def test_every_frame_stands_at_the_same_place_of_its_clip(view: View) -> None:
    """Catches frames of another time in the middle tube, and indices beyond the video's ends."""
    for frame in range(10):
        shown = carry.window(frame, 10, 8, 4, view)
        assert shown[4] == frame
        assert shown.min() >= 0
        assert shown.max() < 10
    assert carry.window(5, 10, 8, 4, "clip").tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert carry.window(5, 10, 8, 4, "still").tolist() == [5] * 8
    assert carry.window(9, 10, 8, 4, "clip").tolist() == [5, 6, 7, 8, 9, 9, 9, 9]


class Means(nn.Module):
    """An encoder whose token is the mean of its tube's pixels."""

    grid = TubeGrid.from_size(8, 16, 16, (2, 8, 8))

    def forward(self, videos: Tensor) -> Tensor:
        return self.grid.split(videos).mean(-1, keepdim=True)


def test_features_are_of_the_tube_that_begins_with_the_frame() -> None:
    """Catches tokens of another moment: frame t has the value t, so its tube's mean is t + 1/2."""
    frames = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 16, 16, 3))
    device = torch.device("cpu")
    encoder: Any = Means()
    still, clip = (carry.features(encoder, frames.copy(), view, device) for view in VIEWS[::-1])
    assert still.shape == (20, 4, 1)
    step = (still[1] - still[0]).mean()
    assert torch.allclose(clip[:-1] - still[:-1], step / 2, atol=1e-4)
    assert torch.allclose(clip[-1], still[-1], atol=1e-4)  # the last frame lasts


@pytest.fixture
def propagate(embedded: Path, embedded_params: Params) -> Callable[..., dict[str, Any]]:
    """The stage with the settings that it declares to read, on the embedded data."""

    def run(params: Params = embedded_params, **changes: Any) -> dict[str, Any]:
        return scores_of("propagation", with_benchmark(params, "propagation", PLAIN | changes))

    return run


def test_scores_are_the_means_of_the_objects(
    embedded_params: Params, propagate: Callable[..., dict[str, Any]]
) -> None:
    """Catches means over other objects than are told, views exchanged, pictures that are not there,
    and baselines of another video."""
    body = propagate()
    files = RunLayout(embedded_params.name, RUN)
    lines = pq.read_table(files.rows("propagation")).to_pylist()
    assert [row["view"] for row in body["scores"]] == ["clip", "still"]
    for row in body["scores"]:
        mine = [line for line in lines if line["view"] == row["view"]]
        values = [(line["j"] + line["f"]) / 2 for line in mine]
        assert row["jf"] == pytest.approx(np.mean(values), abs=1e-12)
        assert row["jf"] == pytest.approx((row["j"] + row["f"]) / 2, abs=1e-12)
        assert row["standard_error"] == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5)
        assert (row["objects"], row["scored"], row["of"]) == (EMBEDDED["test"],) * 3
        assert 0 < row["first_mask"] < row["limit"] < 1
    assert body["census"] == {"embedded": {"ok": EMBEDDED["test"]}}
    assert body["outputs"]["objects"] == sha256_file(files.rows("propagation"))
    assert len(body["pictures"]) == 2
    for picture in body["pictures"]:
        with Image.open(files.folder / picture["file"]) as image:
            assert image.height == pytest.approx(4 * 96, abs=8)  # frames, truth and two views
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    titles = [column.title for column in shown.columns if not column.on_page_only]
    assert titles == ["J&F", "J&F"]
    assert shown.runs[0].values[0] == 100 * body["scores"][0]["jf"]
    assert shown.runs[1].values[0] is None
    names = [name for _, name, _ in BENCHMARKS["propagation"].metrics(body)]
    assert names[:3] == ["embedded_clip_jf", "embedded_clip_j", "embedded_clip_f"]


def test_workers_change_nothing_and_an_interrupted_job_goes_on(
    embedded_params: Params,
    propagate: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches scores that depend on the loader, and a job that begins again or ends otherwise."""
    few = {"views": ["still"], "pictures": 0}
    whole = propagate(**few)
    trainer = embedded_params.runs[RUN].trainer.model_copy(update={"workers": 1})
    runs = {RUN: embedded_params.runs[RUN].model_copy(update={"trainer": trainer})}
    assert propagate(embedded_params.model_copy(update={"runs": runs}), **few) == whole
    calls: list[int] = []
    score = job.score_objects

    def until_killed(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:  # three of a video
            raise ResumeLater("SIGTERM", "here")
        return score(*args)

    with monkeypatch.context() as patch:
        patch.setattr(job, "score_objects", until_killed)
        with pytest.raises(SystemExit):
            propagate(**few)
        assert propagate(**few) == whole
    assert len(calls) == 7 + 3 * (EMBEDDED["test"] - 2)


def test_a_folder_is_scored_with_its_losses(
    tmp_path: Path, propagate: Callable[..., dict[str, Any]]
) -> None:
    """Catches masks of several sizes, bad videos that vanish, and a first frame without objects."""
    root = tmp_path / "DAVIS"
    for name, frames in (("bear", 9), ("swan", 9), ("late", 9), ("short", 2)):
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, frames)
    (root / "JPEGImages/480p/swan/00003.jpg").write_bytes(b"")
    Image.new("P", (40, 24)).save(root / "Annotations/480p/late/00000.png")
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\nswan\nlate\nshort\ngone\n")
    data = {"name": "DAVIS", "kind": "davis2017", "root": str(root), "split": "val"}
    body = propagate(data=[data], views=["still"])
    assert body["census"]["DAVIS"] == {
        "ok": 1, "corrupt": 1, "missing": 1, "no_object": 1, "too_short": 1
    }  # fmt: skip
    (row,) = body["scores"]
    assert (row["objects"], row["scored"], row["of"]) == (1, 1, 5)
    assert row["missing"] == ["gone", "late", "short", "swan"]
    assert [picture["id"] for picture in body["pictures"]] == ["bear"]


def test_there_is_nothing_to_do_where_no_mask_is_known(
    embedded_params: Params, propagate: Callable[..., dict[str, Any]]
) -> None:
    """Catches a job for every data set of one's own, and test clips that were to be left alone."""
    mine = Propagation.model_validate(PLAIN)
    params = embedded_params.model_copy(update={"benchmarks": {"propagation": mine}})
    benchmark = BENCHMARKS["propagation"]
    assert benchmark.runs(params) == list(params.runs)
    other = params.model_copy(update={"data": params.data.model_copy(update={"synthetic": None})})
    left_alone = params.evaluation.model_copy(update={"test": False})
    for changed in (other, params.model_copy(update={"evaluation": left_alone})):
        assert benchmark.runs(changed) == []
        body = propagate(changed)
        assert body["scores"] == []
        assert body["skipped"][0]["data"] == "embedded"
    assert table({RUN: body}) is None
