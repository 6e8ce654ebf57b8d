"""The table of few-shot recognition: a column per label and k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label and k; None where nothing was recognised."""
    scores = Scores.of(bodies, "label", "k")
    first = scores.first
    columns = {((label, k), "top1"): Column(label, f"k = {k}") for label, k in first}
    if not columns:
        return None
    lines = [
        replace(line, intervals=tuple(_interval(rows.get(key)) for key in first))
        for line, rows in zip(scores.lines(columns), scores.by_run.values(), strict=True)
    ]
    count = len(next(iter(first.values()))["draws"])
    return Table(
        id="few_shot",
        title="Few-shot recognition",
        unit="% of clips right",
        remark=f"With k labelled training clips of each class, the mean over {count} draws of "
        "these clips, which are the same for all runs. The answer is the class whose labelled "
        "clips have the nearest mean of frozen features (docs/probing.md).",
        columns=tuple(columns.values()),
        runs=tuple(lines),
        others=(scores.line("chance", "chance", columns),),
        interval=f"95 % interval of the mean over {count} draws",
    )


def _interval(row: Body | None) -> tuple[float, float] | None:
    """A score's interval in per cent."""
    if row is None:
        return None
    low, high = row["interval"]
    return 100 * low, 100 * high
