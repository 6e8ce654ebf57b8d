"""The table of order: a column per label and order of frames, and one for the direction."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Line, Table, cells_by_key, line, percent


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label in each order; None where nothing was asked."""
    keys, by_run = cells_by_key(bodies, "label", "frames")
    if not keys:
        return None
    lines = [line(name, [cells.get(key) for key in keys], "top1") for name, cells in by_run.items()]
    anyones = [next(cells[key] for cells in by_run.values() if key in cells) for key in keys]
    return Table(
        id="order",
        title="The order of frames",
        unit="% of clips right",
        remark="A linear probe that has learned from training clips in order is asked about clips "
        "in order, reversed, shuffled, and still (one frame throughout). Direction: another probe "
        "tells forward from backward (docs/order.md).",
        columns=tuple(Column(label, frames.replace("_", " ")) for label, frames in keys),
        runs=tuple(lines),
        others=(Line("chance", tuple(percent(row["chance"]) for row in anyones)),),
    )
