"""Benchmark II, segmentation, as the rest of the pipeline knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.evaluation.benchmark import DataSetBenchmark
from pipeline.evaluation.segmentation.settings import MaskFolder
from pipeline.evaluation.segmentation.settings import Segmentation as Settings

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Segmentation(DataSetBenchmark):
    """Which objects are in a video, found without labels."""

    name = section = title = "segmentation"
    stage = "segment"
    done = "segmented"
    summary = "find objects in videos with one run's encoder"
    settings = Settings
    folder = MaskFolder
    page = "segmentation.md"
    drawn_of_test = True
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
