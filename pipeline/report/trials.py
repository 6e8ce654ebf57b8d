"""What varies between the trials of a sweep: columns beside their scores, and charts of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from plotly import graph_objects as go

from pipeline.configuration.schema import Sweep
from pipeline.evaluation.table import Cell, Column, Line, Table
from pipeline.report.drawn_curves import Figure, dash
from pipeline.report.results import Results
from pipeline.report.seeds import Group, MeanStd, mean_std, seed_groups
from pipeline.report.tables import ScoreTable, probe_name, score_tables

LOGARITHMIC_FROM = 20.0  # the largest value by the smallest
LABELLED = 8  # values at most that the axis names one by one
Values = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class Point:
    """The trials of one run that differ in their seed alone, and their top-1 as shares."""

    run: str
    values: Values  # of what varies beside the seed
    scores: tuple[float, ...]

    @property
    def top1(self) -> MeanStd:
        """Mean and deviation over the seeds."""
        return mean_std(self.scores)

    @property
    def text(self) -> str:
        """The values in words."""
        return ", ".join(map(shown, self.values.values()))


def shown(value: bool | int | float | str) -> str:
    """Return a value as tables and axes show it."""
    is_float = isinstance(value, float)
    return f"{value:g}" if is_float else str(value)


def values_of(sweep: Sweep, group: Group) -> Values:
    """Return what a group's trials have in common of what varies; nothing where they are none."""
    trials = [sweep.trials[name].values for name in group.names if name in sweep.trials]
    return {
        name: values[0]
        for name in sweep.keys
        if (values := [trial[name] for trial in trials if name in trial])
        and all(value == values[0] for value in values)
    }


def with_values(table: Table, sweep: Sweep, groups: Sequence[Group]) -> Table:
    """Return a table of scores with a column, before the scores, for each key that varies."""
    by_group = {group.name: values_of(sweep, group) for group in groups}
    names = [n for n in sweep.keys if any(n in values for values in by_group.values())]

    def extended(line: Line) -> Line:
        values = by_group.get(line.name, {})
        cells = tuple(_cell(values, name) for name in names)
        return replace(line, cells=(*cells, *table.cells(line)))

    return replace(
        table,
        columns=(*(Column("", name, is_error=True) for name in names), *table.columns),
        runs=tuple(map(extended, table.runs)),
        others=tuple(map(extended, table.others)),
    )


def _cell(values: Values, name: str) -> Cell:
    if name not in values:
        return Cell("")
    value = values[name]
    return Cell(shown(value), float(value) if isinstance(value, int | float) else None)


def counts(sweep: Sweep) -> str:
    """Say how many trials each run has."""
    by_run = Counter(trial.run for trial in sweep.trials.values())
    trials = ", ".join(f"{run} {count}" for run, count in by_run.items())
    return f"Trials of each run: {trials}. They are scored on val alone (docs/sweeps.md)."


def figures(results: Results) -> list[Figure]:
    """Return charts of the scores over what varies; none where the runs are no trials."""
    sweep = results.params.sweep
    if sweep is None:
        return []
    drawn: list[Figure] = []
    for table in score_tables(results):
        for place, probe in enumerate(table.probes):
            points = list(_points(results, sweep, table, place))
            title = f"{table.label}, {probe_name(probe)}"
            drawn += _drawn(f"trials-{len(drawn)}", title, points, _untrained(table, place))
    return drawn


def _points(results: Results, sweep: Sweep, table: ScoreTable, place: int) -> Iterator[Point]:
    scores = {row.run.name: row.scores[place] for row in table.rows}
    for group in seed_groups(results.runs):
        found = tuple(score.top1 for name in group.names if (score := scores[name]))
        if group.first.name in sweep.trials and found:
            trial = sweep.trials[group.first.name]
            values = values_of(sweep, group)
            kept = {name: value for name, value in values.items() if name not in sweep.seeds}
            yield Point(trial.run, kept, found)


def _untrained(table: ScoreTable, place: int) -> float | None:
    rows = [row for row in table.rows if not row.run.trained and row.scores[place]]
    scores = [score.top1 for row in rows if (score := row.scores[place])]
    return mean_std(scores).mean if scores else None


def _drawn(name: str, title: str, points: Sequence[Point], untrained: float | None) -> list[Figure]:
    """A curve for one number, a map for two keys, else dots."""
    keys = {tuple(point.values) for point in points}
    if len(points) < 2:
        return []
    only = next(iter(keys)) if len(keys) == 1 else ()
    if len(only) == 2:
        return [
            _map(f"{name}-{run}", f"{title}: {run}", [p for p in points if p.run == run])
            for run in dict.fromkeys(point.run for point in points)
        ]
    is_curve = len(only) == 1 and all(_is_number(point.values[only[0]]) for point in points)
    return [_plot(name, title, points, untrained, key=only[0] if is_curve else "")]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plot(
    name: str, title: str, points: Sequence[Point], untrained: float | None, *, key: str
) -> Figure:
    """Draw each run's scores over `key`, or, without one, over what varies in words."""
    figure = go.Figure()
    places: list[float | str] = []
    for number, run in enumerate(dict.fromkeys(point.run for point in points)):
        of_run = [point for point in points if point.run == run]
        if key:
            of_run = sorted(of_run, key=lambda point: float(point.values[key]))
        across = [float(p.values[key]) if key else p.text or p.run for p in of_run]
        places += across
        deviations = [100 * (point.top1.std or 0) for point in of_run]
        figure.add_trace(
            go.Scatter(
                x=across,
                y=[round(100 * point.top1.mean, 2) for point in of_run],
                error_y={"array": deviations, "visible": any(deviations)},
                name=run,
                mode="lines+markers" if key else "markers",
                line={"width": 2, "dash": dash(number)},
                meta={"colour": number, "run": run},
                hovertemplate=f"%{{y:.1f}} %<extra>{run}</extra>",
            )
        )
    if untrained is not None:
        figure.add_trace(_level(places, untrained))
    figure.update_layout(template="none", hovermode="closest", showlegend=True)
    figure.update_yaxes(title_text="top-1 on val, %")
    numbers = [place for place in places if isinstance(place, float)]
    is_log = bool(numbers) and 0 < LOGARITHMIC_FROM * min(numbers) <= max(numbers)
    figure.update_xaxes(title_text=key or "trial", type="log" if is_log else None)
    if 0 < len(tried := sorted(set(numbers))) <= LABELLED:
        figure.update_xaxes(tickvals=tried, ticktext=[f"{value:g}" for value in tried])
    return _figure(name, title, figure, points)


def _level(places: Sequence[float | str], share: float) -> go.Scatter:
    """The untrained encoder's score, from the first place to the last."""
    numbers = sorted(place for place in places if isinstance(place, float))
    across = [numbers[0], numbers[-1]] if numbers else list(dict.fromkeys(places))
    return go.Scatter(
        x=across,
        y=[round(100 * share, 2)] * len(across),
        name="untrained",
        mode="lines",
        line={"width": 1, "dash": "dot"},
        meta={"colour": -1, "run": "untrained"},
        hovertemplate="%{y:.1f} %<extra>untrained</extra>",
    )


def _map(name: str, title: str, points: Sequence[Point]) -> Figure:
    """Draw the scores of one run over two keys, each value in the order of the sweep."""
    down, across = points[0].values
    rows = list(dict.fromkeys(shown(point.values[down]) for point in points))
    columns = list(dict.fromkeys(shown(point.values[across]) for point in points))
    means = {
        (shown(point.values[down]), shown(point.values[across])): 100 * point.top1.mean
        for point in points
    }
    cells = [[means.get((row, column)) for column in columns] for row in rows]
    heat = go.Heatmap(
        x=columns,
        y=rows,
        z=cells,
        text=[["" if cell is None else f"{cell:.1f}" for cell in row] for row in cells],
        texttemplate="%{text}",
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate=f"{down} %{{y}}, {across} %{{x}}<br>%{{z:.1f}} %<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(template="none", hovermode="closest")
    figure.update_xaxes(title_text=across, type="category")
    figure.update_yaxes(title_text=down, type="category")
    return _figure(name, title, figure, points)


def _figure(name: str, title: str, figure: go.Figure, points: Sequence[Point]) -> Figure:
    rows = tuple(
        (
            point.run,
            *map(shown, point.values.values()),
            f"{100 * point.top1.mean:.1f}",
            "" if point.top1.std is None else f"{100 * point.top1.std:.1f}",
            str(point.top1.n),
        )
        for point in points
    )
    best = max(points, key=lambda point: point.top1.mean)
    return Figure(
        id=name,
        title=title,
        caption="Top-1 on val; of several seeds the mean, with their standard deviation.",
        json=str(figure.to_json()),
        summary=f"{title}: the best is {best.run} {best.text} with {best.top1.mean:.1%} on val",
        header=("run", *points[0].values, "mean, %", "deviation", "seeds"),
        rows=rows,
    )
