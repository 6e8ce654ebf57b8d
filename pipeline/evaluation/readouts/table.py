"""The table of readouts: a column per quantity, errors throughout."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Line, Table, cells_by_key, line


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Mean error of every quantity; None where nothing was read."""
    keys, by_run = cells_by_key(bodies, "quantity")
    if not keys:
        return None
    columns = tuple(Column("", quantity, is_error=True) for (quantity,) in keys)
    lines = [
        line(run, [cells.get(key) for key in keys], "error", columns)
        for run, cells in by_run.items()
    ]
    anyones = [next(cells[key] for cells in by_run.values() if key in cells) for key in keys]
    return Table(
        id="readouts",
        title="Readouts",
        unit="mean error, less is better",
        remark=f"Numbers of {anyones[0]['split']} clips, read by an attentive probe from frozen "
        "features (docs/readouts.md). Position, speed and size of the embedded data: in sides of "
        "the frame. The mean: the error of answering the training clips’ mean for every clip.",
        columns=columns,
        runs=tuple(lines),
        others=(Line("the mean", tuple(row["of_mean"] for row in anyones)),),
    )
