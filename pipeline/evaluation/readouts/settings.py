"""`benchmarks.readouts`: which numbers are read from frozen features, and by which probe."""

from __future__ import annotations

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.recognition.settings import AttentiveProbe


class Readouts(BenchmarkSettings):
    """Numbers read by an attentive probe (docs/readouts.md)."""

    # columns of the list that hold numbers; the embedded data's position, speed and size are
    # read without
    columns: tuple[str, ...]
    attentive: AttentiveProbe  # trained for each number anew
