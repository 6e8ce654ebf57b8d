"""`benchmarks.propagation`: which videos masks are carried through, and how."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.segmentation.settings import MaskedDataSets

View = Literal["clip", "still"]
VIEWS: tuple[View, ...] = get_args(View)


def _once(views: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(view for view in VIEWS if view in views)


class Propagation(BenchmarkSettings):
    """Masks of a first frame, carried through a video by features alone (docs/propagation.md)."""

    data: MaskedDataSets  # data sets with masks; may be empty
    # what the encoder sees of a frame: the clip around it, or the frame repeated; a column each
    views: Annotated[tuple[View, ...], Field(min_length=1), AfterValidator(_once)]
    memory: int = Field(ge=0)  # frames before it that a frame's labels come from, beside the first
    neighbourhood: int = Field(ge=0)  # rows and columns of tubes that labels may move by
    neighbours: int = Field(gt=0)  # the most similar tubes, which labels are taken from
    temperature: float = Field(gt=0)  # that cosines are divided by
    pictures: int = Field(ge=0)  # videos of each data set that are drawn, spread over its list
