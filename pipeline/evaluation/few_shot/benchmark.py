"""Few-shot recognition, as the rest of the pipeline knows it."""

from __future__ import annotations

from pipeline.evaluation.benchmark import Benchmark
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
    metric = "{label}_k{k}"
    measures = ("top1",)
    card = ("label", "split", "k", "top1", "interval", "chance", "scored", "of")
