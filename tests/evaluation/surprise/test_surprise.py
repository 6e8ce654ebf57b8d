"""Surprise: its scores of known errors, what a model sees, and its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Params
from pipeline.data.synthetic import events
from pipeline.data.synthetic.tasks import View
from pipeline.evaluation.surprise import folders, predictor, scores, windows
from pipeline.evaluation.surprise.folders import Video
from pipeline.evaluation.surprise.predictor import PredictionError
from pipeline.evaluation.surprise.settings import PairFolder
from pipeline.method.losses import MseLoss
from pipeline.method.sigma import Prediction
from pipeline.method.tubes import TubeGrid, TubeSplit, gather
from pipeline.runtime.files import write_json

RUN = "sigma_mlp"


def videos_of(pairs: int) -> list[Video]:
    return [
        Video(f"{k}-{possible}", str(k), "kind", possible)
        for k in range(pairs)
        for possible in (True, False)
    ]


def test_known_errors_have_known_scores() -> None:
    """Catches pairs taken for single videos, a maximum for a mean, and the possible video taken
    for the impossible one."""
    videos = videos_of(3)
    errors = {
        "0-True": [[1.0, 0.0], [1.0, 0.0]],
        "0-False": [[3.0, 0.0], [1.0, 0.0]],
        "1-True": [[5.0, 0.0], [5.0, 0.0]],
        "1-False": [[6.0, 0.0], [6.0, 0.0]],
        "2-True": [[2.0, 0.0], [2.0, 0.0]],
        "2-False": [[0.0, 0.0], [3.0, 0.0]],
    }
    arrays = {name: np.array(values) for name, values in errors.items()}
    mean, first, second = scores.rows({"data": "x"}, videos, arrays, ["1 of 2", "half"])
    assert (mean["context"], first["context"], second["context"]) == ("mean", "1 of 2", "half")
    assert first["relative_accuracy"] == pytest.approx(2 / 3)
    assert first["relative_accuracy_max"] == 1
    assert mean["relative_accuracy"] == first["relative_accuracy"]
    assert first["auroc"] == pytest.approx(7 / 9)  # 3, 6, 3 against 1, 5, 2
    assert second["relative_accuracy"] == second["auroc"] == 0.5  # ties throughout
    assert first["excess"] == pytest.approx([1 / 3 / (16 / 6), 2 / 3 / (16 / 6)])
    del arrays["2-False"]
    lost = next(scores.rows({}, videos, arrays, ["a", "b"]))
    assert (lost["pairs"], lost["scored"], lost["of"]) == (2, 5, 6)
    assert lost["missing"] == ["2-False"]
    assert next(scores.rows({}, videos, {}, ["a"]))["relative_accuracy"] is None


def test_shuffled_labels_are_at_chance() -> None:
    """Catches a score that errors of no meaning make large."""
    rng = np.random.default_rng(0)
    videos = videos_of(1000)
    errors = {video.id: rng.random((5, 1)) for video in videos}
    row = next(scores.rows({}, videos, errors, ["a"]))
    assert row["relative_accuracy"] == pytest.approx(0.5, abs=0.06)
    assert row["auroc"] == pytest.approx(0.5, abs=0.05)


def test_windows_cover_a_video_and_a_short_one_stands_still() -> None:
    """Catches a last window that is left out, and indices beyond the video's end."""
    assert windows.windows(8, 4, 2).tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert windows.windows(3, 4, 2).tolist() == [[0, 1, 2, 2]]


class Repeats(nn.Module):
    """A model that predicts of every later tube what the last tube seen at its place was."""

    grid = TubeGrid.from_size(8, 16, 16, (2, 8, 8))

    def forward(self, videos: Tensor, masks: list[TubeSplit]) -> list[Prediction]:
        tubes = self.grid.split(videos)
        (split,) = masks
        seen = gather(tubes, split.visible)
        area = self.grid.height * self.grid.width
        latest = seen[:, -area:].repeat(1, split.predicted.shape[1] // area, 1)
        return [Prediction(latest, gather(tubes, split.predicted))]


def test_a_planted_event_is_found_where_it_is_hidden() -> None:
    """Catches a model that sees what it is to predict, and contexts taken for one another."""
    still = torch.zeros(1, 3, 8, 16, 16)
    late, early = still.clone(), still.clone()
    late[:, :, 6:] = 1.0
    early[:, :, 2:] = 1.0
    model: Any = Repeats()
    network = PredictionError(model, MseLoss(), [1, 2])
    errors = network(torch.cat([still, late, early]))
    assert errors.shape == (3, 2)
    assert errors[0].tolist() == [0.0, 0.0]
    assert errors[1].tolist() == pytest.approx([1 / 3, 1 / 2])
    assert errors[2].tolist() == pytest.approx([1.0, 0.0])  # the second context has seen it


def test_a_window_has_the_same_error_in_any_batch(embedded_params: Params) -> None:
    """Catches Sinkhorn, which makes a tube's assignment depend on the other clips."""
    run = embedded_params.runs[RUN]
    torch.manual_seed(0)
    model = sigma_model(run.model, run.objective, embedded_params.data.clip).eval()
    network = PredictionError(model, run.objective.loss, [1, 2])
    videos = torch.randn(4, 3, *model.grid.clip_shape)
    with torch.inference_mode():
        together = network(videos)
        alone = torch.cat([network(video[None]) for video in videos])
    assert torch.allclose(together, alone, atol=1e-4)
    assert (together > 0).all()


def test_contexts_leave_something_to_see_and_to_predict() -> None:
    """Catches a context of all or none of a window, and one that is there twice."""
    assert predictor.context_steps([0.01, 0.25, 0.26, 0.99], 4) == [1, 3]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"weights": "x.safetensors"}, "an encoder's"),
        ({"trainer": {"epochs": 0}}, "not trained"),
    ],
)
def test_a_run_without_predictions_says_why(
    embedded_params: Params, change: dict[str, Any], part: str
) -> None:
    """Catches errors of a predictor that was never trained, shown as surprise."""
    run = embedded_params.runs[RUN]
    if "trainer" in change:
        change = {"trainer": run.trainer.model_copy(update=change["trainer"])}
    assert predictor.reason_without(run, 4) == ""
    assert part in predictor.reason_without(run.model_copy(update=change), 4)
    assert "one tube" in predictor.reason_without(run, 1)


@pytest.mark.parametrize("event", events.EVENTS)
def test_an_impossible_clip_begins_and_ends_as_possible_ones(
    embedded_params: Params, event: events.Event
) -> None:
    """Catches an event that one frame tells, one that is none, and one that is seen to vanish."""
    settings, view = embedded_params.data.synthetic, View(4, 1)
    assert settings is not None
    first, second = events.render(event, settings, view, "test", 3)
    again, _ = events.render(event, settings, view, "test", 3)
    mixed = events.spliced(first, second)
    middle = len(first) // 2
    assert len(first) == events.length(view) == 8
    assert np.array_equal(first, again)
    assert np.array_equal(mixed[:middle], first[:middle])
    assert np.array_equal(mixed[middle:], second[middle:])
    assert not np.array_equal(mixed, first)
    if event == "vanish":  # nothing is to be seen of it where it happens
        assert np.abs(first[middle].astype(int) - second[middle]).max() <= 1
        assert np.abs(first[0].astype(int) - second[0]).max() > 20


def write_pictures(folder: Path, values: list[int]) -> None:
    folder.mkdir(parents=True)
    for number, value in enumerate(values, 1):
        Image.new("RGB", (20, 16), (value, value, value)).save(folder / f"scene_{number:03d}.png")


def test_intphys_videos_are_matched_by_how_they_begin(tmp_path: Path) -> None:
    """Catches a possible video that is paired with the impossible one of the other beginning."""
    frames = {"1": ([1, 1, 9], False), "2": ([5, 5, 5], True), "3": ([1, 1, 1], True)}
    frames["4"] = ([5, 5, 9], False)
    for name, (values, possible) in frames.items():
        write_pictures(tmp_path / "O1" / "01" / name / "scene", values)
        status = tmp_path / "O1" / "01" / name / "status.json"
        write_json(status, {"header": {"is_possible": possible}})
    listed = folders.videos(PairFolder(name="x", kind="intphys", root=str(tmp_path)))
    pairs = [{v.id for v in listed if v.pair == f"O1/01/{number}"} for number in (0, 1)]
    assert pairs == [{"O1/01/2", "O1/01/4"}, {"O1/01/3", "O1/01/1"}]
    assert [v.possible for v in listed] == [True, False, True, False]


def test_names_tell_the_pairs_of_grasp_and_inflevel(tmp_path: Path) -> None:
    """Catches pairs of other objects, and a possible video taken for an impossible one."""
    for name in ("P_Gravity/000.mp4", "IP_Gravity/000.mp4", "P_Gravity/001.mp4"):
        (tmp_path / "grasp" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "grasp" / name).write_bytes(b"")
    data = PairFolder(name="x", kind="grasp", root=str(tmp_path / "grasp"))
    listed = folders.videos(data)
    assert [(v.id, v.possible) for v in listed[:2]] == [
        ("P_Gravity/000", True),
        ("IP_Gravity/000", False),
    ]
    assert not folders.files_of(listed[3])  # IP_Gravity/001 is not there
    names = ["continuity/left__continuity__cup__duck__vi__LR.mp4"]
    names += ["continuity/left__continuity__cup__duck__vv__LR.mp4"]
    names += [f"gravity/center__gravity__pot__egg__{trial}.mp4" for trial in ("ci", "cv", "ui")]
    for name in names:
        (tmp_path / "inflevel" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "inflevel" / name).write_bytes(b"")
    data = PairFolder(name="x", kind="inflevel", root=str(tmp_path / "inflevel"))
    by_pair: dict[str, list[bool]] = {}
    for video in folders.videos(data):
        by_pair.setdefault(video.pair, []).append(video.possible)
    assert sorted(by_pair.values()) == [[True], [True, False], [True, False]]
