"""The table of label propagation: J&F, and what it is made of, by data set and view."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Line, Table, cells_by_key, line, percent

SCORES = {
    "jf": "J&F",
    "j": "J",
    "f": "F",
    "j_recall": "J recall",
    "f_recall": "F recall",
    "limit": "limit",
}


def table(bodies: Mapping[str, Body]) -> Table | None:
    """J&F of every data set and view; None where no mask was carried."""
    keys, by_run = cells_by_key(bodies, "data", "view")
    if not keys:
        return None
    shown = [(key, score) for key in keys for score in SCORES]
    lines = []
    for run, cells in by_run.items():
        values = [percent(cells[key][score]) if key in cells else None for key, score in shown]
        counted = line(run, [cells.get(key) for key in keys], "jf").scored
        lines.append(Line(run, tuple(values), counted))
    anyones = {key: next(c[key] for c in by_run.values() if key in c) for key in keys}
    first = (percent(anyones[key]["first_mask"]) if s == "jf" else None for key, s in shown)
    return Table(
        id="propagation",
        title="Label propagation",
        unit="%",
        remark="The masks of a video’s first frame are carried to the others by the similarity of "
        "frozen features, and compared with the true ones: J is the overlap of regions, F the "
        "agreement of boundaries (docs/propagation.md). Limit: J&F of true labels of the tubes.",
        columns=tuple(
            Column(f"{data}, {view}", SCORES[score], on_page_only=score != "jf")
            for (data, view), score in shown
        ),
        runs=tuple(lines),
        others=(Line("first mask throughout", tuple(first)),),
    )
