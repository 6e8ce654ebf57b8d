"""The test of order, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.benchmark import Benchmark, Body
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
    card = ("label", "split", "frames", "top1", "chance", "scored", "of")

    def metrics(self, body: Body) -> Iterator[tuple[str, str, float]]:
        """Yield top-1 by label and order of frames."""
        for row in body["scores"]:
            yield "order", f"{row['label']}_{row['frames']}", row["top1"]
