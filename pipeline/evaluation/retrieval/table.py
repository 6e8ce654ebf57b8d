"""The table of retrieval: a column per label and k."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table


def table(bodies: Mapping[str, Body]) -> Table | None:
    """R@k of every label; None where nothing was retrieved."""
    scores = Scores.of(bodies, "label", "k")
    first = scores.first
    columns = {((label, k), "recall"): Column(label, f"R@{k}") for label, k in first}
    if not columns:
        return None
    split = next(iter(first.values()))["split"]
    return Table(
        id="retrieval",
        title="Retrieval",
        unit="R@k, %",
        remark=f"How often one of the k training clips nearest to a {split} clip, by "
        "the cosine of frozen features, is of its class (docs/probing.md). Chance: the training "
        "clips in random order.",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("chance", "chance", columns),),
    )
