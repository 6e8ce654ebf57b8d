"""The table of few-shot recognition: a column per label and k."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Line, Table, cells_by_key, line, percent


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label and k; None where nothing was recognised."""
    keys, by_run = cells_by_key(bodies, "label", "k")
    if not keys:
        return None
    lines = []
    for name, cells in by_run.items():
        found = [cells.get(key) for key in keys]
        bounds = tuple(
            (100 * each["interval"][0], 100 * each["interval"][1]) if each else None
            for each in found
        )
        lines.append(replace(line(name, found, "top1"), intervals=bounds))
    anyones = [next(cells[key] for cells in by_run.values() if key in cells) for key in keys]
    count = len(anyones[0]["draws"])
    return Table(
        id="few_shot",
        title="Few-shot recognition",
        unit="% of clips right",
        remark=f"With k labelled training clips of each class, the mean over {count} draws of "
        "these clips, which are the same for all runs. The answer is the class whose labelled "
        "clips have the nearest mean of frozen features (docs/probing.md).",
        columns=tuple(Column(label, f"k = {k}") for label, k in keys),
        runs=tuple(lines),
        others=(Line("chance", tuple(percent(each["chance"]) for each in anyones)),),
        interval=f"95 % interval of the mean over {count} draws",
    )
