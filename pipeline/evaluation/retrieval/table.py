"""The table of retrieval: a column per label and k."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Line, Table, cells_by_key, line, percent


def table(bodies: Mapping[str, Body]) -> Table | None:
    """R@k of every label; None where nothing was retrieved."""
    keys, by_run = cells_by_key(bodies, "label", "k")
    if not keys:
        return None
    lines = [
        line(name, [cells.get(key) for key in keys], "recall") for name, cells in by_run.items()
    ]
    anyones = [next(cells[key] for cells in by_run.values() if key in cells) for key in keys]
    return Table(
        id="retrieval",
        title="Retrieval",
        unit="R@k, %",
        remark=f"How often one of the k training clips nearest to a {anyones[0]['split']} clip, by "
        "the cosine of frozen features, is of its class (docs/probing.md). Chance: the training "
        "clips in random order.",
        columns=tuple(Column(label, f"R@{k}") for label, k in keys),
        runs=tuple(lines),
        others=(Line("chance", tuple(percent(row["chance"]) for row in anyones)),),
    )
