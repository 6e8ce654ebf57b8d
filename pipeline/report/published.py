"""The paper's rows beneath a table of scores, where the data set is one that the paper has."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report import paper
from pipeline.report.results import Results
from pipeline.report.tables import ScoreTable

# What an image data set's format is called in the paper's table.
IMAGES = {"imagenet": "in1k", "cifar100": "c100"}


@dataclass(frozen=True)
class PaperRow:
    """One method's top-1 per probe of a table, shares from 0 to 1; None where it has no number."""

    method: str
    top1: tuple[float | None, ...]


def rows(results: Results, table: ScoreTable) -> list[PaperRow]:
    """Return the paper's rows for a table; none where its data set is not the paper's.

    A linear probe is compared with the paper's linear probe, a fine-tuned encoder with its
    fine-tuned ones; fine-tuning with a frozen encoder is the paper's linear probe.
    """
    if table.beside:  # scores on val stand for nothing that the paper has
        return []
    data = _data_set(results, table.label)
    finetune = results.params.evaluation.finetune
    columns = []
    for probe in table.probes:
        frozen = probe == "linear" or bool(finetune and finetune.frozen)
        known = probe in ("linear", "finetune")
        columns.append(paper.recognition(data, table.classes, frozen=frozen) if known else {})
    methods = list(dict.fromkeys(method for column in columns for method in column))
    return [
        PaperRow(f"{method}, ViT-B (paper)", tuple(_share(c.get(method)) for c in columns))
        for method in methods
    ]


def _data_set(results: Results, label: str) -> str:
    """Return the data set that a table's label belongs to: an image data set goes by its name."""
    for images in results.params.evaluation.images:
        if images.name == label:
            return IMAGES[images.format]
    return results.params.data.name


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
