"""What a clip scores, and the rows of the table: means over clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Segmentation
from pipeline.evaluation.metrics import missing, standard_error
from pipeline.evaluation.segmentation import clusters, metric
from pipeline.evaluation.segmentation.sources import VOID, Lost, MaskedClip

Protocol = Literal["clustering", "over_clustering"]
MATCHING: dict[Protocol, metric.Matching] = {
    "clustering": "hungarian",
    "over_clustering": "greedy_many_to_one",
}


@dataclass(frozen=True)
class ClipScore:
    """One clip: mean IoU of both protocols, and of the answer "all pixels are one segment"."""

    id: str
    classes: int  # in the masks, the background too
    clustering: float
    over_clustering: float
    one_segment: float


def score_clip(
    clip: MaskedClip, tokens: NDArray[np.float32], settings: Segmentation
) -> ClipScore | Lost:
    """Score one clip from its tokens (t,h,w,D); Lost where its masks show no object."""
    answered = answers(clip, tokens, settings)
    if isinstance(answered, Lost):
        return answered
    counts = clip.masks != VOID
    truth = clip.masks[counts].astype(np.int64)
    iou = {
        protocol: metric.mean_iou(truth, segments[counts], matching=MATCHING[protocol])
        for protocol, segments in answered.items()
    }
    nothing = metric.mean_iou(truth, np.zeros_like(truth), matching="hungarian")
    return ClipScore(
        id=clip.id,
        classes=len(np.unique(truth)),
        clustering=iou["clustering"],
        over_clustering=iou["over_clustering"],
        one_segment=nothing,
    )


def answers(
    clip: MaskedClip, tokens: NDArray[np.float32], settings: Segmentation
) -> dict[Protocol, clusters.Labels] | Lost:
    """Return the segments (T,R,R) of both protocols."""
    present = np.unique(clip.masks[clip.masks != VOID])
    if not (present != metric.BACKGROUND).any():
        return Lost(
            clip.id, "no_object", "its objects are too small to be seen at segmentation.resolution"
        )
    counts = (len(present), settings.clusters)
    frames, resolution = clip.masks.shape[:2]
    segments = clusters.segment(tokens, frames, resolution, counts, settings)
    return {"clustering": segments[0], "over_clustering": segments[1]}


def rows(
    about: Mapping[str, Any],
    scored: Sequence[ClipScore],
    lost: Sequence[Lost],
    settings: Segmentation,
) -> list[dict[str, Any]]:
    """Return a row per protocol: means over the `scored` clips, shares from 0 to 1; None of none.

    `about` are fields of every row (data, kind, frames), `lost` all clips that are not scored.
    `clusters` is None where there are as many as a clip has classes, `one_segment` is what "all
    pixels are one segment" gives, `standard_error` that of `miou` over clips.
    """
    table = []
    for protocol in MATCHING:
        values = [getattr(clip, protocol) for clip in scored]
        table.append(
            {
                "benchmark": "segmentation",
                **about,
                "protocol": protocol,
                "clusters": settings.clusters if protocol == "over_clustering" else None,
                "miou": float(np.mean(values)) if values else None,
                "standard_error": standard_error(values),
                "one_segment": float(np.mean([c.one_segment for c in scored])) if scored else None,
                "scored": len(scored),
                "of": len(scored) + len(lost),
                **missing(clip.id for clip in lost),
            }
        )
    return table
