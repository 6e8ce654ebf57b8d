"""What a video scores, and the rows of the table: means over objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import missing, standard_error
from pipeline.evaluation.propagation.carry import Masks
from pipeline.evaluation.propagation.measures import (
    boundary_accuracy,
    region_similarity,
    statistics,
)
from pipeline.evaluation.propagation.settings import View
from pipeline.evaluation.segmentation.sources import VOID, Lost

MIN_FRAMES = 3  # the first is given, and the last is not scored


@dataclass(frozen=True)
class ObjectScore:
    """One object's masks against the true ones."""

    j: float
    j_recall: float
    j_decay: float
    f: float
    f_recall: float
    f_decay: float

    @property
    def jf(self) -> float:
        """J&F, the mean of both."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class VideoScore:
    """One video: its objects' scores in each view, in the order of their numbers.

    `first_mask` and `limit` are what J&F of each object would be, were the first mask that of all
    frames, and were the labels of every frame's tubes the true ones.
    """

    id: str
    objects: list[int]
    views: dict[View, list[ObjectScore]]
    first_mask: list[float]
    limit: list[float]

    @classmethod
    def of(cls, clip: str, kept: Mapping[str, Any]) -> VideoScore:
        """Return what `asdict` was taken of."""
        views = {
            view: [ObjectScore(**each) for each in kept["views"][view]] for view in kept["views"]
        }
        return cls(clip, kept["objects"], views, kept["first_mask"], kept["limit"])


def score_objects(truth: Masks, answer: Masks, numbers: Sequence[int]) -> list[ObjectScore]:
    """Score masks (T,H,W) object by object: all frames but the first, which is given, and the last.

    Pixels that are void in the true masks count nowhere.
    """
    counts = truth != VOID
    scores = []
    for number in numbers:
        pairs = [
            ((truth[k] == number) & counts[k], (answer[k] == number) & counts[k])
            for k in range(1, len(truth) - 1)
        ]
        j = statistics(np.array([region_similarity(*pair) for pair in pairs]))
        f = statistics(np.array([boundary_accuracy(*pair) for pair in pairs]))
        scores.append(ObjectScore(*j, *f))
    return scores


def row(
    about: Mapping[str, Any], view: View, scored: Sequence[VideoScore], lost: Sequence[Lost]
) -> dict[str, Any]:
    """Return a view's row: means over the objects of all videos. `lost` are the others."""
    each = [score for video in scored for score in video.views[view]]
    fields = [asdict(score) | {"jf": score.jf} for score in each]
    means = {
        key: float(np.mean([one[key] for one in fields])) if fields else None
        for key in ("jf", *ObjectScore.__dataclass_fields__)
    }
    baselines = {
        key: float(np.mean([value for video in scored for value in getattr(video, key)]))
        if each
        else None
        for key in ("first_mask", "limit")
    }
    return {
        **about,
        "view": view,
        **means,
        "standard_error": standard_error([score.jf for score in each]),
        **baselines,
        "objects": len(each),
        "scored": len(scored),
        "of": len(scored) + len(lost),
        **missing(clip.id for clip in lost),
    }
