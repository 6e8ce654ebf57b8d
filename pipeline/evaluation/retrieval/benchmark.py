"""Retrieval, as the rest of the pipeline knows it."""

from __future__ import annotations

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.retrieval.settings import Retrieval as Settings


class Retrieval(Benchmark):
    """Whether the train clips nearest to a test clip are of its class."""

    name = title = "retrieval"
    stage = "retrieve"
    done = "retrieved"
    summary = "look for train clips of one run's test clips' classes"
    settings = Settings
    module = "pipeline.evaluation.retrieval.run"
    on_further_data = True
    table = "pipeline.evaluation.retrieval.table"
    reads = ("data.labels", "evaluation.test")
    after = ("evaluation",)
    metric = "{label}_r{k}"
    measures = ("recall",)
    card = ("label", "split", "k", "recall", "chance", "scored", "of")
