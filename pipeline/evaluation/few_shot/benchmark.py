"""Few-shot recognition, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.benchmark import Benchmark, Body
from pipeline.evaluation.few_shot.settings import FewShot as Settings


class FewShot(Benchmark):
    """Which class a clip is of, when a few clips of each class have a label."""

    name = stage = "few_shot"
    done = "few_shots"
    title = "few-shot recognition"
    summary = "recognise with few labels by one run's features"
    settings = Settings
    module = "pipeline.evaluation.few_shot.run"
    on_further_data = True
    table = "pipeline.evaluation.few_shot.table"
    reads = ("data.labels", "evaluation.test")
    after = ("evaluation",)
    card = ("label", "split", "k", "top1", "interval", "chance", "scored", "of")

    def metrics(self, body: Body) -> Iterator[tuple[str, str, float]]:
        """Yield the mean top-1 by label and k."""
        for row in body["scores"]:
            yield "few_shot", f"{row['label']}_k{row['k']}", row["top1"]
