"""The table of surprise: relative accuracy and AUROC by data set and property, and their curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.surprise.scores import MEAN
from pipeline.evaluation.table import Chart, Column, Line, Scores, Table

SCORES = {"relative_accuracy": "relative accuracy", "auroc": "AUROC"}


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Scores in the mean of all contexts; None where no pair was scored."""
    scores = Scores.of(bodies, "data", "property", "context")
    columns = {
        (key, score): Column(", ".join(key[:2]), title, on_page_only=score != "relative_accuracy")
        for key in scores.first
        if key[2] == MEAN
        for score, title in SCORES.items()
    }
    if not columns:
        return None
    return Table(
        id="surprise",
        title="Surprise",
        unit="%",
        remark="Videos in which something impossible happens, each matched with a possible one "
        "that begins alike: how often the model’s prediction fails more on the impossible one of "
        "a pair (relative accuracy, mean over windows), and of any two videos (AUROC, maximum "
        "over windows). Chance is 50 (docs/surprise.md).",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(Line("chance", (50.0,) * len(columns)),),
        charts=tuple(_charts(bodies)),
    )


def _charts(bodies: Mapping[str, Body]) -> list[Chart]:
    """One chart for each data set: the mean of its properties' curves, of every run."""
    names = {row["data"]: None for body in bodies.values() for row in body["scores"]}
    charts = []
    for data in names:
        points = {run: _points(body, data) for run, body in bodies.items()}
        charts.append(
            Chart(
                id=f"surprise-{data}",
                title=f"Surprise over time, {data}",
                x="first frame of the window, as the model samples them",
                y="more surprise at the impossible, %",
                caption="How much larger the error is on impossible videos than on the possible "
                "ones that they are matched with, as a share of the error on these.",
                points={run: each for run, each in points.items() if each},
            )
        )
    return charts


def _points(body: Body, data: str) -> list[tuple[float, float]]:
    rows = [row for row in body["scores"] if row["data"] == data and row["context"] == MEAN]
    curves = [row["excess"] for row in rows if row["excess"]]
    if not curves:
        return []
    shortest = min(map(len, curves))
    mean = np.mean([curve[:shortest] for curve in curves], axis=0)
    step = body["window"]["step"]
    return [(float(k * step), float(100 * value)) for k, value in enumerate(mean)]
