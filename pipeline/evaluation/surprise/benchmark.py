"""Surprise, as the rest of the pipeline knows it."""

from __future__ import annotations

from pipeline.evaluation.benchmark import DataSetBenchmark
from pipeline.evaluation.surprise.settings import PairFolder
from pipeline.evaluation.surprise.settings import Surprise as Settings


class Surprise(DataSetBenchmark):
    """Whether a model's predictions fail where the world does not go on as it should."""

    name = title = "surprise"
    stage = "surprise"
    done = "surprised"
    summary = "compare the errors of one run's predictions on possible and impossible videos"
    settings = Settings
    folder = PairFolder
    page = "surprise.md"
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
