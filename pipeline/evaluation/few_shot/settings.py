"""`benchmarks.few_shot`: how many labels, and how often they are drawn."""

from __future__ import annotations

from pydantic import Field

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.settings import Counts


class FewShot(BenchmarkSettings):
    """Nearest class means of few labelled train clips (docs/probing.md)."""

    k: Counts  # labelled train clips of each class
    draws: int = Field(gt=1)  # of these clips, for the mean and its interval
    seed: int  # of the draws, which are the same for all runs
