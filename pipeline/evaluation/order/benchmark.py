"""The test of order, as the rest of the pipeline knows it."""

from __future__ import annotations

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.order.settings import Order as Settings


class Order(Benchmark):
    """What becomes of recognition out of order, and whether features tell forward from backward."""

    name = stage = "order"
    done = "ordered"
    title = "the order of frames"
    summary = "show one run's encoder clips out of order"
    settings = Settings
    module = "pipeline.evaluation.order.run"
    on_further_data = True
    table = "pipeline.evaluation.order.table"
    reads = ("data.labels", "evaluation")
    after = ("evaluation",)
    outputs = ("order.npz",)
    metric = "{label}_{frames}"
    measures = ("top1",)
    card = ("label", "split", "frames", "top1", "chance", "scored", "of")
