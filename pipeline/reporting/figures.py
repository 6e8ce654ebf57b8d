"""The curves and confusion matrices, as plotly figures that the page draws in its own colours.

A trace carries a colour's number in `meta.colour`; the page's script turns it into a colour of the
light, dark or print scheme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from pipeline.reporting.results import Line, Results, RunResult

POINTS = 1200  # of a curve; of longer ones every n-th is drawn
ROWS = 8  # of the table that stands for a curve where it cannot be seen
DIGITS = 6  # significant, of a drawn value
DASHES = ("solid", "dash", "dot", "dashdot")  # beside colour, so that colour alone says nothing
LABELLED = 30  # classes whose names stand beside a confusion matrix

# Key in the log: title, unit of the axis, what it tells, fixed range of the axis.
DIAGNOSTICS: dict[str, tuple[str, str, str, tuple[float, float] | None]] = {
    "prototypes_used": (
        "Prototypes in use",
        "share of prototypes",
        "Share of the prototypes that at least one tube of the batch is assigned to.",
        (0, 1.05),
    ),
    "assignment_entropy": (
        "Assignment entropy",
        "0 collapsed, 1 even",
        "How evenly the tubes are spread over the prototypes: 0 is one prototype for all.",
        (0, 1.05),
    ),
    "branch_agreement": (
        "Agreement of the branches",
        "share of tubes",
        "Share of the masked tubes that decoder and target network assign to the same prototype.",
        (0, 1.05),
    ),
    "feature_norm": (
        "Length of the predictions",
        "L2 norm",
        "Mean length of the decoder's predictions.",
        None,
    ),
    "target_norm": ("Length of the targets", "L2 norm", "Mean length of the targets.", None),
    "target_alignment": (
        "Alignment of the targets",
        "mean cosine of two tubes",
        "1 is a collapse: all targets point the same way (docs/diagnostics.md).",
        (-0.05, 1.05),
    ),
    "feature_alignment": (
        "Alignment of the predictions",
        "mean cosine of two tubes",
        "1 is a collapse: the decoder predicts the same direction for all masked tubes.",
        (-0.05, 1.05),
    ),
    "lr": ("Learning rate", "per step", "Warm-up, then a cosine.", None),
}
SPEED = {"clips_per_s": ("Speed", "clips/s", "Clips that a run trained on per second.")}


@dataclass(frozen=True)
class Series:
    """One curve: a value per step."""

    run: str
    colour: int
    steps: list[float]
    values: list[float | None]


@dataclass(frozen=True)
class Figure:
    """A chart, and the same in words and as a table of a few of its values."""

    id: str
    title: str
    caption: str
    json: str  # what plotly.js draws
    summary: str  # in words, for who cannot see it
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def curves(results: Results) -> list[Figure]:
    """Return loss, diagnostics, learning rate and speed; what was not logged is left out."""
    colours = {run.name: place for place, run in enumerate(results.runs)}
    figures = _losses(results.trained, colours)
    for key, (title, unit, caption, limits) in DIAGNOSTICS.items():
        found = _series(results.trained, colours, key)
        if found:
            figures.append(_curve(key, title, unit, caption, found, limits))
    for key, (title, unit, caption) in SPEED.items():
        found = [
            series
            for run in results.trained
            if (series := _one(run.name, colours[run.name], run.speed, key))
        ]
        if found:
            figures.append(_curve(key, title, unit, caption, found, None))
    return figures


def confusions(results: Results) -> list[Figure]:
    """Return a matrix per run and label of which class was taken for which."""
    found = [
        (details.label, _confusion(run, number))
        for run in results.runs
        for number, details in enumerate(run.details)
        if details.confusion
    ]
    order = list(dict.fromkeys(label for label, _ in found))
    return [figure for _, figure in sorted(found, key=lambda item: order.index(item[0]))]


def _losses(runs: Sequence[RunResult], colours: dict[str, int]) -> list[Figure]:
    """One chart per kind of loss: values of different kinds cannot be compared."""
    kinds: dict[tuple[str, str, int, float], list[RunResult]] = {}
    for run in runs:
        objective = run.settings.objective
        size = (objective.prototypes, objective.temperature)
        kinds.setdefault((objective.loss, objective.target.kind, *size), []).append(run)
    figures = []
    for number, (kind, group) in enumerate(kinds.items()):
        found = _series(group, colours, "loss")
        if not found:
            continue
        if kind[0] == "sinkhorn":
            unit = "cross-entropy, nats"
            even = 2 * math.log(group[0].settings.objective.prototypes)
            caption = f"Sum of two cross-entropies; guessing evenly would give {even:.2f}."
        else:
            unit = "mean squared error"
            caption = "Mean squared error of the masked tubes' normalised targets."
        title = f"Loss: {', '.join(run.name for run in group)}"
        figures.append(_curve(f"loss-{number}", title, unit, caption, found, None))
    return figures


def _series(runs: Sequence[RunResult], colours: dict[str, int], key: str) -> list[Series]:
    found = (_one(run.name, colours[run.name], run.metrics, key) for run in runs)
    return [series for series in found if series]


def _one(run: str, colour: int, lines: Sequence[Line], key: str) -> Series | None:
    """Read one curve; None where the run did not log it. What is not finite is a gap."""
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    if not points:
        return None
    every = -(-len(points) // POINTS)
    kept = points[::every]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    values = [_shortened(value) for _, value in kept]
    return Series(run, colour, [step for step, _ in kept], values)


def _shortened(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _curve(
    name: str,
    title: str,
    unit: str,
    caption: str,
    found: Sequence[Series],
    limits: tuple[float, float] | None,
) -> Figure:
    traces = [
        go.Scatter(
            x=series.steps,
            y=series.values,
            name=series.run,
            mode="lines" if len(series.steps) > 1 else "markers",
            line={"width": 2, "dash": DASHES[series.colour % len(DASHES)]},
            meta={"colour": series.colour},
            hovertemplate="%{y:.4~g}",
        )
        for series in found
    ]
    figure = go.Figure(traces)
    figure.update_layout(template="none", hovermode="x unified", showlegend=len(found) > 1)
    figure.update_xaxes(title_text="step", hoverformat=",d", rangemode="tozero")
    figure.update_yaxes(title_text=unit, range=limits)
    header, rows = _table(found)
    return Figure(
        name, title, caption, str(figure.to_json()), _in_words(title, found), header, rows
    )


def _in_words(title: str, found: Sequence[Series]) -> str:
    said = [
        f"{series.run} from {series.values[0]:.4g} at step {series.steps[0]:,.0f} to "
        f"{series.values[-1]:.4g} at step {series.steps[-1]:,.0f}"
        for series in found
        if series.values[0] is not None and series.values[-1] is not None
    ]
    return f"{title}: {'; '.join(said)}" if said else title


def _table(found: Sequence[Series]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """A few of the values, evenly spaced over all steps, the last among them."""
    steps = sorted({step for series in found for step in series.steps})
    count = min(ROWS, len(steps))
    chosen = [steps[(place + 1) * len(steps) // count - 1] for place in range(count)]
    columns = [dict(zip(series.steps, series.values, strict=True)) for series in found]
    rows = []
    for step in chosen:
        values = [column.get(step) for column in columns]
        shown = ("" if value is None else f"{value:.4g}" for value in values)
        rows.append((f"{step:,.0f}", *shown))
    return ("step", *(series.run for series in found)), tuple(rows)


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
