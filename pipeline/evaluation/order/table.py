"""The table of order: a column per label and order of frames, and one for the direction."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Top-1 of every label in each order; None where nothing was asked."""
    scores = Scores.of(bodies, "label", "frames")
    first = scores.first
    columns = {
        ((label, frames), "top1"): Column(label, frames.replace("_", " "))
        for label, frames in first
    }
    if not columns:
        return None
    return Table(
        id="order",
        title="The order of frames",
        unit="% of clips right",
        remark="A linear probe that has learned from training clips in order is asked about clips "
        "in order, reversed, shuffled, and still (one frame throughout). Direction: another probe "
        "tells forward from backward (docs/order.md).",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("chance", "chance", columns),),
    )
