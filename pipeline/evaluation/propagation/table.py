"""The table of label propagation: J&F, and what it is made of, by data set and view."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table

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
    scores = Scores.of(bodies, "data", "view")
    columns = {
        ((data, view), score): Column(f"{data}, {view}", title, on_page_only=score != "jf")
        for data, view in scores.first
        for score, title in SCORES.items()
    }
    if not columns:
        return None
    return Table(
        id="propagation",
        title="Label propagation",
        unit="%",
        remark="The masks of a video’s first frame are carried to the others by the similarity of "
        "frozen features, and compared with the true ones: J is the overlap of regions, F the "
        "agreement of boundaries (docs/propagation.md). Limit: J&F of true labels of the tubes.",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("first mask throughout", "first_mask", columns, under="jf"),),
    )
