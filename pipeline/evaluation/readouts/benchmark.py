"""Readouts, as the rest of the pipeline knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.readouts.settings import Readouts as Settings

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Readouts(Benchmark):
    """How exactly features tell where an object is, how fast and how large."""

    name = title = "readouts"
    stage = "read_out"
    done = "read"
    summary = "read numbers from one run's frozen features"
    settings = Settings
    module = "pipeline.evaluation.readouts.run"
    table = "pipeline.evaluation.readouts.table"
    reads = ("data.synthetic", "evaluation")
    after = ("evaluation",)
    metric = "{quantity}"
    measures = ("error",)
    card = ("quantity", "split", "error", "of_mean", "scored", "of")

    def has_work(self, params: Params) -> bool:
        """Whether there is a number to read."""
        return params.data.synthetic is not None or bool(self.of(params).columns)
