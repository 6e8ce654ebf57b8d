"""Surprise, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.evaluation.benchmark import Benchmark, Requirement
from pipeline.evaluation.surprise.settings import PairFolder
from pipeline.evaluation.surprise.settings import Surprise as Settings

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Surprise(Benchmark):
    """Whether a model's predictions fail where the world does not go on as it should."""

    name = title = "surprise"
    stage = "surprise"
    done = "surprised"
    summary = "compare the errors of one run's predictions on possible and impossible videos"
    settings = Settings
    module = "pipeline.evaluation.surprise.run"
    table = "pipeline.evaluation.surprise.table"
    reads = ("data.synthetic", "evaluation")
    outputs = ("surprise", "surprise.parquet")
    metric = "{data}_{property}_{context}_{measure}"
    measures = ("relative_accuracy", "auroc")
    card = ("data", "property", "context", "relative_accuracy", "auroc", "scored", "of")
    pictured = (
        "Surprise over time",
        "Above: frames of a possible video, and of the impossible one that begins alike. Below: "
        "the error of the model’s own prediction, window by window, of the possible one (blue) "
        "and of the impossible one (orange).",
    )

    def fitting(self, params: Params) -> Settings:
        """Return its settings without pairs that are drawn as the embedded data is."""
        settings: Settings = self.of(params)
        drawn = params.data.synthetic is not None
        kept = tuple(data for data in settings.data if drawn or isinstance(data, PairFolder))
        return settings.model_copy(update={"data": kept})

    def left_out(self, asked: Settings, fitting: Settings) -> list[str]:
        """Name the pairs that cannot be drawn."""
        return [each.name for each in asked.data if each not in fitting.data]

    def has_work(self, params: Params) -> bool:
        """Whether there are pairs."""
        return bool(self.fitting(params).data)

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """Folders of videos."""
        for data in self.of(params).data:
            if isinstance(data, PairFolder):
                remedy = "docs/surprise.md says how to get it; or benchmarks/surprise=none"
                yield Requirement(data.name, Path(data.root), remedy)
