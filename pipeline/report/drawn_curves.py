"""A chart of curves: as a plotly figure that the page draws in its own colours, in words, a table.

A trace carries a colour's number in `meta.colour`; the page's script turns it into a colour of the
light, dark or print scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

ROWS = 8  # of the table that stands for a curve where it cannot be seen
COLOURS = 8  # that report.css defines for runs
DASHES = ("solid", "dash", "dot", "dashdot")  # beside colour, so that colour alone says nothing
CROWDED = 8  # groups; with more a chart is as wide as the page, and its legend stands beside it


def dash(number: int) -> str:
    """The dash of a run's line: runs that share a colour differ in it."""
    return DASHES[(number + number // COLOURS) % len(DASHES)]


@dataclass(frozen=True)
class Series:
    """One curve: a value per step. Seeds of a `group` share its colour and place in the legend."""

    run: str
    group: str
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
    is_wide: bool = False  # as wide as the page


def drawn_curve(
    name: str,
    title: str,
    axes: tuple[str, str],
    caption: str,
    curves: Sequence[Series],
    limits: tuple[float, float] | None,
) -> Figure:
    """Draw curves; `axes` says what is upward, and what is across."""
    unit, across = axes
    figure = go.Figure(_traces(curves))
    groups = len({series.group for series in curves})
    is_wide = groups > CROWDED
    figure.update_layout(template="none", hovermode="x unified", showlegend=groups > 1)
    if is_wide:
        figure.update_layout(legend={"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1})
    figure.update_xaxes(
        title_text=across, rangemode="tozero", unifiedhovertitle={"text": f"{across} %{{x:,d}}"}
    )
    figure.update_yaxes(title_text=unit, range=limits)
    header, rows = _table(curves, across)
    words = _in_words(title, curves, across)
    return Figure(name, title, caption, str(figure.to_json()), words, header, rows, is_wide)


def _traces(curves: Sequence[Series]) -> list[go.Scatter]:
    """A line per run; the legend names each group once, pointing at a line names the run."""
    traces, named = [], set()
    for series in curves:
        traces.append(
            go.Scatter(
                x=series.steps,
                y=series.values,
                name=series.group,
                legendgroup=series.group,
                showlegend=series.group not in named,
                mode="lines" if len(series.steps) > 1 else "markers",
                line={"width": 2, "dash": dash(series.colour)},
                meta={"colour": series.colour, "run": series.run},
                hovertemplate=f"%{{y:.4~g}}<extra>{series.run}</extra>",
            )
        )
        named.add(series.group)
    return traces


def _in_words(title: str, curves: Sequence[Series], across: str) -> str:
    texts = [
        f"{series.run} from {series.values[0]:.4g} at {across} {series.steps[0]:,.0f} to "
        f"{series.values[-1]:.4g} at {across} {series.steps[-1]:,.0f}"
        for series in curves
        if series.values[0] is not None and series.values[-1] is not None
    ]
    return f"{title}: {'; '.join(texts)}" if texts else title


def _table(
    curves: Sequence[Series], across: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """A few of the values, evenly spaced over all steps, the last among them."""
    steps = sorted({step for series in curves for step in series.steps})
    count = min(ROWS, len(steps))
    chosen = [steps[(place + 1) * len(steps) // count - 1] for place in range(count)]
    columns = [dict(zip(series.steps, series.values, strict=True)) for series in curves]
    rows = []
    for step in chosen:
        values = [column.get(step) for column in columns]
        shown = ("" if value is None else f"{value:.4g}" for value in values)
        rows.append((f"{step:,.0f}", *shown))
    return (across, *(series.run for series in curves)), tuple(rows)
