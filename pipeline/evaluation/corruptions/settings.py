"""`benchmarks.corruptions`: the kinds, the probe and the clips."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.recognition.settings import LinearProbe

Kind = Literal["noise", "blur", "compression", "dropped", "repeated", "brightness"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STRENGTHS = (1, 2, 3, 4, 5)


def _once(kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    return tuple(kind for kind in KINDS if kind in kinds)


class Corruptions(BenchmarkSettings):
    """A probe of clean clips, asked about corrupted ones (docs/corruptions.md)."""

    kinds: Annotated[
        tuple[Kind, ...], Field(min_length=1), AfterValidator(_once)
    ]  # five strengths each
    linear: LinearProbe  # learns from clean train clips
    # test clips that are corrupted, chosen by a hash of their ids; null: all
    clips: int | None = Field(gt=0)
    seed: int  # of noise and of lost frames, which are the same for all runs
