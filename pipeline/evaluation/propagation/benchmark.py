"""Label propagation, as the rest of the pipeline knows it."""

from __future__ import annotations

from pipeline.evaluation.benchmark import DataSetBenchmark
from pipeline.evaluation.propagation.settings import Propagation as Settings
from pipeline.evaluation.segmentation.settings import MaskFolder


class Propagation(DataSetBenchmark):
    """How well an object is followed through a video by the similarity of features alone."""

    name = "propagation"
    stage = "propagate"
    done = "propagated"
    title = "label propagation"
    summary = "carry masks through videos by one run's features"
    settings = Settings
    folder = MaskFolder
    page = "segmentation.md"
    drawn_of_test = True
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
