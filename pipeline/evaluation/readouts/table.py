"""The table of readouts: a column per quantity, errors throughout."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Mean error of every quantity; None where nothing was read."""
    scores = Scores.of(bodies, "quantity")
    first = scores.first
    columns = {(key, "error"): Column("", key[0], is_error=True) for key in first}
    if not columns:
        return None
    split = next(iter(first.values()))["split"]
    return Table(
        id="readouts",
        title="Readouts",
        unit="mean error, less is better",
        remark=f"Numbers of {split} clips, read by an attentive probe from frozen "
        "features (docs/readouts.md). Position, speed and size of the embedded data: in sides of "
        "the frame. The mean: the error of answering the training clips’ mean for every clip.",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("the mean", "of_mean", columns),),
    )
