"""`benchmarks.order`: the probes, and what is done to the order of frames."""

from __future__ import annotations

from pydantic import Field

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.recognition.settings import LinearProbe


class Order(BenchmarkSettings):
    """Probes of clips in order, asked about clips out of order (docs/order.md)."""

    linear: LinearProbe  # of both tests
    # train clips that forward and backward is learned of, chosen by a hash of their ids; null: all
    direction_clips: int | None = Field(gt=1)
    seed: int  # of random orders, which are the same for all runs
