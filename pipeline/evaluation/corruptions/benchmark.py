"""Corruptions, as the rest of the pipeline knows them."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.benchmark import Benchmark, Body
from pipeline.evaluation.corruptions.settings import Corruptions as Settings


class Corruptions(Benchmark):
    """What becomes of recognition where videos are noisy, blurred or incomplete."""

    name = title = "corruptions"
    stage = "corrupt"
    done = "corrupted"
    summary = "show one run's encoder corrupted clips"
    settings = Settings
    module = "pipeline.evaluation.corruptions.run"
    on_further_data = True
    table = "pipeline.evaluation.corruptions.table"
    reads = ("data.labels", "evaluation")
    after = ("evaluation",)
    outputs = ("corruptions.npz",)
    card = ("label", "split", "kind", "top1", "drop", "chance", "scored", "of")

    def metrics(self, body: Body) -> Iterator[tuple[str, str, float]]:
        """Yield top-1 by label and kind."""
        for row in body["scores"]:
            yield "corruptions", f"{row['label']}_{row['kind']}", row["top1"]
