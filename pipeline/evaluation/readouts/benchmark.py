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

    def fitting(self, params: Params) -> Settings:
        """Return its settings without numbers that only the embedded data's drawings tell."""
        settings: Settings = self.of(params)
        drawn = settings.embedded and params.data.synthetic is not None
        return settings.model_copy(update={"embedded": drawn})

    def left_out(self, asked: Settings, fitting: Settings) -> list[str]:
        """Name the numbers that nothing tells."""
        return ["position, speed and size"] if asked.embedded and not fitting.embedded else []

    def has_work(self, params: Params) -> bool:
        """Whether there is a number to read."""
        settings = self.fitting(params)
        return settings.embedded or bool(settings.columns)
