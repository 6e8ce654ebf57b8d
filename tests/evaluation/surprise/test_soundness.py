"""Whether the drawn pairs can be told apart at all, and only by what came before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.configuration.schema import Params
from pipeline.evaluation.surprise import predictor, windows
from pipeline.evaluation.surprise.settings import DrawnPairs
from pipeline.evaluation.surprise.videos import VideoSource, open_source
from pipeline.method.pixels import normalise
from pipeline.method.sigma import Prediction
from pipeline.method.tubes import TubeGrid, TubeSplit, gather

from .test_stage import PLAIN, mean_error, surprise

__all__ = ["surprise"]  # a fixture


class Predicts(nn.Module):
    """A model whose prediction of a window is `future` of it: pixels of all its frames."""

    def __init__(self, grid: TubeGrid, future: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.grid, self.future = grid, future

    def forward(self, videos: Tensor, masks: list[TubeSplit]) -> list[Prediction]:
        (split,) = masks
        predicted = torch.stack([self.future(video) for video in videos])
        parts = (gather(self.grid.split(each), split.predicted) for each in (predicted, videos))
        return [Prediction(*parts)]


def key(window: Tensor) -> bytes:
    """What tells a normalised window 3,T,H,W, whatever its last bits."""
    return (window * 50).round().to(torch.int16).numpy().tobytes()


def continuations(source: VideoSource, length: int) -> dict[bytes, Tensor]:
    """How each window goes on where nothing impossible happens, by the window itself.

    What begins after an event is as in the possible video that ends alike.
    """
    known = {}
    for is_possible in (False, True):
        for video in source.videos:
            if video.possible is not is_possible:
                continue
            shown, true = (source.read(each) for each in (video, _possible(source, video.pair)))
            for chosen in windows.windows(len(shown), length, PLAIN["step"]):
                pair = torch.stack([torch.from_numpy(each[chosen]) for each in (shown, true)])
                window, future = normalise(pair)
                known[key(window)] = future
    return known


def _possible(source: VideoSource, pair: str) -> Any:
    return next(video for video in source.videos if video.pair == pair and video.possible)


@pytest.mark.parametrize(("knows", "expected"), [(True, 1.0), (False, 0.5)])
def test_who_knows_how_it_goes_on_is_always_right_and_who_sees_nothing_never_gains(
    embedded_params: Params,
    surprise: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    knows: bool,
    expected: float,
) -> None:
    """Catches events that no window shows, so that even true pixels as predictions score less than
    100 %, and possible and impossible videos that differ in how hard their frames are to predict,
    so that a model which does not look at what came before scores more or less than 50 %."""
    clip, grids = embedded_params.data.clip, embedded_params.runs["sigma_mlp"].model
    grid = TubeGrid.from_size(clip.frames, clip.size, clip.size, grids.tube)
    pairs = DrawnPairs(name="embedded", kind="drawn", scenes=PLAIN["data"][0]["scenes"])
    source = open_source(embedded_params, pairs, clip.stride)
    assert not isinstance(source, str)
    known = continuations(source, clip.frames)
    future = (lambda window: known[key(window)]) if knows else torch.zeros_like
    monkeypatch.setattr(predictor, "whole_model", lambda _: Predicts(grid, future))
    monkeypatch.setattr(predictor.PredictionError, "_error", mean_error)
    body = surprise()
    assert {row["property"] for row in body["scores"]} == {"vanish", "jump", "change"}
    for row in body["scores"]:
        assert row["relative_accuracy"] == expected, row
        if knows:
            assert row["auroc"] == 1.0
