"""Corruptions, as the rest of the pipeline knows them."""

from __future__ import annotations

from pipeline.evaluation.benchmark import Benchmark
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
    metric = "{label}_{kind}"
    measures = ("top1",)
    card = ("label", "split", "kind", "top1", "drop", "chance", "scored", "of")
