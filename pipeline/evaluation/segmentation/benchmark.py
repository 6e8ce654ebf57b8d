"""Benchmark II, segmentation, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.evaluation.benchmark import Benchmark, Requirement
from pipeline.evaluation.segmentation.settings import MaskFolder
from pipeline.evaluation.segmentation.settings import Segmentation as Settings

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Segmentation(Benchmark):
    """Which objects are in a video, found without labels."""

    name = section = title = "segmentation"
    stage = "segment"
    done = "segmented"
    summary = "find objects in videos with one run's encoder"
    settings = Settings
    module = "pipeline.evaluation.segmentation.run"
    table = "pipeline.evaluation.segmentation.table"
    reads = ("data.synthetic", "evaluation.test")
    outputs = ("segmentation", "segmentation.parquet")
    pictured = (
        "Segments found without labels",
        "From top to bottom: frames; their true masks; clusters of the encoder’s tokens, in the "
        "colour of the object that each was matched with; over-clustering, in colours of their "
        "own.",
    )
    metric = "{data}_{frames}_frames_{protocol}"
    measures = ("miou",)
    card = ("data", "protocol", "frames", "miou", "one_segment", "scored", "of")

    def of(self, params: Params) -> Settings:
        """Return its settings."""
        return params.segmentation

    def check(self, params: Params) -> None:
        """Raise ValueError where a run's tubes do not divide a clip."""
        for length in params.segmentation.frames:
            for name, run in params.runs.items():
                if length % run.model.tube[0]:
                    raise ValueError(
                        f"runs.{name}.model.tube of {run.model.tube[0]} frames does not divide a "
                        f"clip of {length} (segmentation.frames)"
                    )

    def fitting(self, params: Params) -> Settings:
        """Return its settings without masks that only the embedded data's test split has."""
        drawn = params.data.synthetic is not None and params.evaluation.test
        kept = tuple(m for m in params.segmentation.data if drawn or m.kind != "embedded")
        return params.segmentation.model_copy(update={"data": kept})

    def left_out(self, asked: Settings, fitting: Settings) -> list[str]:
        """Name the data sets that cannot be segmented."""
        return [each.name for each in asked.data if each not in fitting.data]

    def has_work(self, params: Params) -> bool:
        """Whether there is a data set with masks."""
        return bool(params.segmentation.data)

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """Data sets with masks."""
        for data in params.segmentation.data:
            if isinstance(data, MaskFolder):
                remedy = "docs/segmentation.md says how to get it; or segmentation=none"
                yield Requirement(data.name, Path(data.root), remedy)
            else:
                yield Requirement(data.name, None, note="drawn by the project itself")
