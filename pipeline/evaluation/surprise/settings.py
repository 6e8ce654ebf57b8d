"""`benchmarks.surprise`: which pairs of videos a model's predictions are tried on, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.configuration.section import Name, Section
from pipeline.evaluation.benchmark import BenchmarkSettings


class DrawnPairs(Section):
    """Pairs of clips of moving digits, drawn as `data.synthetic` has them."""

    name: Name  # shown in the report
    kind: Literal["drawn"]
    scenes: int = Field(gt=0)  # of each event; a scene gives two matched pairs


class PairFolder(Section):
    """A data set of possible and impossible videos as it is shipped."""

    name: Name  # shown in the report
    kind: Literal["intphys", "grasp", "inflevel"]
    root: str  # the folder that holds O1, O2, O3; P_*, IP_*; continuity, gravity, solidity


PairData = Annotated[DrawnPairs | PairFolder, Field(discriminator="kind")]
Share = Annotated[float, Field(gt=0, lt=1)]


def _names_differ(data: tuple[PairData, ...]) -> tuple[PairData, ...]:
    names = [each.name for each in data]
    if len(set(names)) < len(names):
        raise ValueError(f"two data sets of one name: {', '.join(names)}")
    return data


class Surprise(BenchmarkSettings):
    """Errors of a model's predictions of what comes next (docs/surprise.md)."""

    data: Annotated[tuple[PairData, ...], AfterValidator(_names_differ)]  # may be empty
    # shares of a window's time steps that are seen; the others are predicted
    contexts: tuple[Share, ...] = Field(min_length=1)
    step: int = Field(gt=0)  # frames, as the model samples them, from one window to the next
    # source frames from one sampled frame to the next; null: `data.clip.stride`
    stride: int | None = Field(default=None, gt=0)
    pictures: int = Field(ge=0)  # pairs of each data set that are drawn, spread over its list
