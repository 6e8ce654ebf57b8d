"""Confusion matrices: which class is taken for which."""

from __future__ import annotations

from plotly import graph_objects as go

from pipeline.report.drawn_curves import ROWS, Figure
from pipeline.report.results import Results, RunResult

LABELLED = 30  # classes whose names stand beside a confusion matrix


def confusions(results: Results) -> list[Figure]:
    """Return a matrix per run and label of which class was taken for which."""
    labelled = [
        (details.label, _confusion(run, number))
        for run in results.runs
        for number, details in enumerate(run.details)
        if details.confusion
    ]
    order = list(dict.fromkeys(label for label, _ in labelled))
    return [figure for _, figure in sorted(labelled, key=lambda item: order.index(item[0]))]


def _confusion(run: RunResult, number: int) -> Figure:
    details = run.details[number]
    counts = details.confusion
    shares = [[value / max(1, sum(row)) for value in row] for row in counts]
    heat = go.Heatmap(
        x=details.classes,
        y=details.classes,
        z=[[round(value, 4) for value in row] for row in shares],
        customdata=counts,
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="%{y} taken for %{x}<br>%{customdata} clips, %{z:.1%}<extra></extra>",
    )
    figure = go.Figure(heat)
    named = len(details.classes) <= LABELLED
    figure.update_layout(template="none", hovermode="closest")
    figure.update_xaxes(title_text="answer", type="category", showticklabels=named)
    figure.update_yaxes(
        title_text="truth", type="category", autorange="reversed", showticklabels=named
    )
    right = sum(counts[i][i] for i in range(len(counts)))
    total = sum(map(sum, counts))
    summary = f"Confusion matrix of {run.name}, {details.label}: {right} of {total} clips right"
    mistakes = sorted(
        (
            (counts[i][j], details.classes[i], details.classes[j])
            for i in range(len(counts))
            for j in range(len(counts))
            if i != j and counts[i][j]
        ),
        key=lambda item: (-item[0], item[1:]),
    )
    rows = tuple((true, answer, str(count)) for count, true, answer in mistakes[:ROWS])
    return Figure(
        id=f"confusion-{run.name}-{number}",
        title=f"{run.name}: {details.label}",
        caption=f"{right:,} of {total:,} clips on the diagonal.",
        json=str(figure.to_json()),
        summary=summary,
        header=("true class", "taken for", "clips"),
        rows=rows,
    )
