"""The table of SEVERE, with the paper's rows: its ViT-B, in per cent.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447).
Repetition counting (column `ucf_rc`) is a relative error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.severe.columns import COLUMNS
from pipeline.evaluation.table import Column, Scores, Table, published

# SEVERE's columns (as in severe.json), and the data set of each by the name that it has here.
PAPER_DATA = {
    "ssv2": "ssv2",
    "gym99": "gym99",
    "ucf_1000": "ucf101",
    "gym99_1000": "gym99",
    "fx_s1": "fx_s1",
    "ub_s1": "ub_s1",
    "ucf_rc": "ucfrep",
    "charades": "charades",
}

# By method, then by column and `mean`.
PAPER: dict[str, dict[str, float]] = {
    method: dict(zip((*PAPER_DATA, "mean"), row, strict=True))
    for method, row in {
        "SIGMA-DINO": (70.9, 89.7, 84.1, 28.0, 55.1, 79.9, 0.169, 23.3, 64.3),
        "SIGMA-MLP": (69.8, 87.4, 80.2, 26.8, 46.0, 79.7, 0.178, 20.1, 61.5),
        "VideoMAE": (68.6, 86.6, 74.6, 25.9, 42.8, 65.3, 0.172, 12.6, 57.4),
    }.items()
}


def table(bodies: Mapping[str, Body]) -> Table | None:
    """A column per task and the mean of all; None where there is no task."""
    scores = Scores.of(bodies, "column")
    first = {name: scores.first[name,] for name in COLUMNS if (name,) in scores.first}
    if not first:
        return None
    of_paper = [paper_row(name, row["data"]) for name, row in first.items()]
    columns, stand_ins = {}, []
    for (name, row), same in zip(first.items(), of_paper, strict=True):
        column, task = COLUMNS[name], row["task"].replace("_", " ")
        # A stand-in goes by its own name: its numbers are not to be taken for the paper's.
        title = column.title if same else task
        columns[(name,), "value"] = Column(column.axis, title, column.error)
        stand_ins += [] if same else [f"{task} for {column.title}"]
    lines = [
        replace(line, values=(*line.values, bodies[line.name].get("mean")))
        for line in scores.lines(columns)
    ]
    constant = scores.line("constant", "constant", columns)
    mean = PAPER if all(of_paper) and len(first) == len(COLUMNS) else {}
    of_paper.append({method: row["mean"] for method, row in mean.items()})
    return Table(
        id="severe",
        title="SEVERE: how far the features carry",
        unit="%; of counting, the relative error: less is better",
        remark=(
            f"Here stand in, for the paper's columns: {', '.join(stand_ins)}. " if stand_ins else ""
        )
        + "Constant: the best answer that is the same for every clip. The mean counts an error e "
        "as 100 (1 - e) (docs/severe.md).",
        columns=(*columns.values(), Column("", "mean")),
        runs=tuple(lines),
        others=(replace(constant, values=(*constant.values, None)), *published(of_paper)),
    )


def paper_row(column: str, data: str) -> dict[str, float]:
    """Return each method's number in a column; empty where the data set is not the paper's."""
    if PAPER_DATA.get(column) != data:
        return {}
    return {method: row[column] for method, row in PAPER.items()}
