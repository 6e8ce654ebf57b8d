"""What errors on possible and impossible videos come to: relative accuracy, AUROC, and curves.

Shapes: V windows of a video, C contexts, n pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.metrics import missing
from pipeline.evaluation.surprise.folders import Video

Array = NDArray[np.float64]
MEAN = "mean"  # in the place of a context: the mean over all of them


@dataclass(frozen=True)
class VideoErrors:
    """A video and the errors (V,C) of the predictions of its windows."""

    video: Video
    values: Array

    def at(self, context: int | None) -> Array:
        """The errors (V,) in one context; in the mean of all where it is None."""
        return self.values.mean(1) if context is None else self.values[:, context]


def rows(
    about: Mapping[str, Any],
    videos: Sequence[Video],
    errors: Mapping[str, Array],
    contexts: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yield the scores of each property, in the mean of all contexts and in each.

    Args:
        about: fields of every row.
        videos: all of a data set, those that cannot be read too.
        errors: of the videos that can be read, by id: (V,C).
        contexts: C names.
    """
    for kind in dict.fromkeys(video.property for video in videos):
        mine = [video for video in videos if video.property == kind]
        lost = [video.id for video in mine if video.id not in errors]
        pairs = matched(mine, errors)
        for place, name in enumerate([MEAN, *contexts]):
            context = None if name == MEAN else place - 1
            yield {
                **about,
                "property": kind,
                "context": name,
                **_scores(pairs, context),
                "pairs": len(pairs),
                "scored": len(mine) - len(lost),
                "of": len(mine),
                **missing(lost),
            }


def matched(
    videos: Sequence[Video], errors: Mapping[str, Array]
) -> list[tuple[VideoErrors, VideoErrors]]:
    """Return the possible and the impossible video of each pair of which both can be read."""
    by_pair: dict[str, dict[bool, VideoErrors]] = {}
    for video in videos:
        if video.id in errors:
            each = by_pair.setdefault(video.pair, {})
            each[video.possible] = VideoErrors(video, errors[video.id])
    return [(each[True], each[False]) for each in by_pair.values() if len(each) == 2]


def _scores(
    pairs: Sequence[tuple[VideoErrors, VideoErrors]], context: int | None
) -> dict[str, Any]:
    """Score one context; None throughout where there is no pair."""
    if not pairs:
        names = ("relative_accuracy", "standard_error", "relative_accuracy_max", "auroc")
        return {**dict.fromkeys((*names, "auroc_mean")), "excess": []}
    curves = [[each.at(context) for each in pair] for pair in pairs]
    means = np.array([[curve.mean() for curve in pair] for pair in curves])  # n,2
    most = np.array([[curve.max() for curve in pair] for pair in curves])
    accuracy = relative_accuracy(*means.T)
    return {
        "relative_accuracy": accuracy,
        "standard_error": float(np.sqrt(accuracy * (1 - accuracy) / len(pairs))),
        "relative_accuracy_max": relative_accuracy(*most.T),
        "auroc": auroc(*most.T),
        "auroc_mean": auroc(*means.T),
        "excess": excess(curves),
    }


def relative_accuracy(possible: Array, impossible: Array) -> float:
    """Return the share of pairs (n,) whose impossible video surprises more; a tie is a half."""
    return float(np.mean((impossible > possible) + 0.5 * (impossible == possible)))


def auroc(possible: Array, impossible: Array) -> float:
    """Return how often an impossible video, of any pair, surprises more than a possible one.

    That is the area under the curve of impossible ones found over possible ones accused.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([possible, impossible]))[len(possible) :]
    above = ranks.sum() - len(impossible) * (len(impossible) + 1) / 2
    return float(above / (len(possible) * len(impossible)))


def excess(curves: Sequence[Sequence[Array]]) -> list[float]:
    """Return how much more surprising impossible videos are in each window, on average.

    As a share of the mean surprise of the possible ones; as far as the shortest video goes.
    """
    shortest = min(len(curve) for pair in curves for curve in pair)
    cut = np.array([[curve[:shortest] for curve in pair] for pair in curves])  # n,2,V
    usual = cut[:, 0].mean()
    if not usual:
        return [0.0] * shortest
    means: list[float] = ((cut[:, 1] - cut[:, 0]).mean(0) / usual).tolist()
    return means
