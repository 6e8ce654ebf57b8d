"""Label propagation, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.evaluation.benchmark import Benchmark, Requirement
from pipeline.evaluation.propagation.settings import Propagation as Settings
from pipeline.evaluation.segmentation.settings import MaskFolder

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Propagation(Benchmark):
    """How well an object is followed through a video by the similarity of features alone."""

    name = "propagation"
    stage = "propagate"
    done = "propagated"
    title = "label propagation"
    summary = "carry masks through videos by one run's features"
    settings = Settings
    module = "pipeline.evaluation.propagation.run"
    table = "pipeline.evaluation.propagation.table"
    reads = ("data.synthetic", "evaluation.test")
    outputs = ("propagation", "propagation.parquet")
    metric = "{data}_{view}_{measure}"
    measures = ("jf", "j", "f")
    card = ("data", "view", "jf", "j", "f", "first_mask", "scored", "of")
    pictured = (
        "Masks carried by features",
        "From top to bottom: frames; their true masks, of which the first is given; what features "
        "of the clip around each frame, and of each frame alone, have carried of it.",
    )

    def fitting(self, params: Params) -> Settings:
        """Return its settings without masks that only the embedded data's test split has."""
        settings: Settings = self.of(params)
        drawn = params.data.synthetic is not None and params.evaluation.test
        kept = tuple(data for data in settings.data if drawn or isinstance(data, MaskFolder))
        return settings.model_copy(update={"data": kept})

    def left_out(self, asked: Settings, fitting: Settings) -> list[str]:
        """Name the data sets through which no mask can be carried."""
        return [each.name for each in asked.data if each not in fitting.data]

    def has_work(self, params: Params) -> bool:
        """Whether there is a data set with masks."""
        return bool(self.fitting(params).data)

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """Data sets with masks."""
        for data in self.of(params).data:
            if isinstance(data, MaskFolder):
                remedy = "docs/segmentation.md says how to get it; or benchmarks/propagation=none"
                yield Requirement(data.name, Path(data.root), remedy)
