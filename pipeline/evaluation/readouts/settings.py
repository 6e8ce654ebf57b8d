"""`benchmarks.readouts`: which numbers are read from frozen features, and by which probe."""

from __future__ import annotations

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.recognition.settings import AttentiveProbe


class Readouts(BenchmarkSettings):
    """Numbers read by an attentive probe (docs/readouts.md)."""

    embedded: bool  # the position, speed and size of the embedded data's digits
    columns: tuple[str, ...]  # those of the list that hold numbers
    attentive: AttentiveProbe  # trained for each number anew
