"""The tables that terminal and page show: of scores and of benchmarks, in one form.

Each comes twice: a row per group of seeds, and a row per run.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.table import Cell, Column, Line, Table
from pipeline.report import comparison, paper, training_cost, trials
from pipeline.report.formats import percent, points
from pipeline.report.remarks import remarks
from pipeline.report.results import Results, Score
from pipeline.report.seeds import (
    Group,
    GroupCell,
    GroupRow,
    group_rows,
    mean_std,
    seed_groups,
    single_groups,
)
from pipeline.report.tables import ScoreTable, probe_name, score_tables


@dataclass(frozen=True)
class ShownTable:
    """One table; `remarks` say what its numbers do not say by themselves."""

    grouped: Table
    single: Table
    remarks: Sequence[str] = ()
    scores: ScoreTable | None = None  # None of a benchmark beyond recognition


def of_scores(results: Results, groups: Sequence[Group] = ()) -> list[ShownTable]:
    """Return a table per label and split, those on val last; by default seeds are grouped."""
    groups, singles = groups or seed_groups(results.runs), single_groups(results.runs)
    return [
        ShownTable(
            _of_scores(results, table, groups),
            _of_scores(results, table, singles),
            remarks(table, groups),
            table,
        )
        for table in score_tables(results)
    ]


def of_benchmarks(results: Results) -> list[ShownTable]:
    """Return the tables beyond recognition that there are numbers for, the trainings' cost last."""
    groups = seed_groups(results.runs)
    tables = [
        importlib.import_module(benchmark.table).table(
            {run.name: run.results.get(name, {}) for run in results.runs}
        )
        for name, benchmark in BENCHMARKS.items()
        if benchmark.table is not None
    ]
    tables.append(training_cost.table(results))
    return [ShownTable(over_seeds(table, groups), table) for table in tables if table is not None]


def over_seeds(table: Table, groups: Sequence[Group]) -> Table:
    """Return the table with a line per group of runs: the mean over its seeds."""
    lines = {line.name: line for line in table.runs}
    return replace(table, runs=tuple(_mean(g, [lines[name] for name in g.names]) for g in groups))


def _mean(group: Group, lines: Sequence[Line]) -> Line:
    if not group.has_several_seeds:
        return replace(lines[0], name=group.name)
    columns = [
        [value for value in column if value is not None]
        for column in zip(*(line.values for line in lines), strict=True)
    ]
    means = [mean_std(column) if column else None for column in columns]
    return Line(
        group.name,
        tuple(each.mean if each else None for each in means),
        "; ".join(dict.fromkeys(line.scored for line in lines if line.scored)),
        tuple(each.std if each else None for each in means),
        len(lines),
    )


def _of_scores(results: Results, table: ScoreTable, groups: Sequence[Group]) -> Table:
    columns: list[Column] = []
    chance: list[Cell] = []
    for probe in map(probe_name, table.probes):
        columns.append(Column(probe, "top-1"))
        chance.append(Cell(percent(table.chance)))
        if table.with_top5:
            columns.append(Column(probe, "top-5"))
            chance.append(Cell(percent(min(1.0, 5 / table.classes))))
        columns.append(Column(probe, "gain", on_page_only=True))
        chance.append(Cell(""))
    others = [Line("chance", cells=tuple(chance))]
    majority = table.first.majority
    if majority is not None:
        cells = [Cell(percent(majority) if c.title == "top-1" else "") for c in columns]
        others.append(Line("commonest class", cells=tuple(cells)))
    others += [_of_baseline(table, columns, score) for score in table.baselines]
    what = "on which probes chose their settings" if table.beside else "% of clips right"
    shown = Table(
        id=table.label,
        title=table.label,
        unit=f"{table.classes} classes, split {table.split}, {what}",
        remark="These scores are a little too high: they are there to compare trials by."
        if table.beside
        else "",
        columns=tuple(columns),
        runs=tuple(_line(table, row) for row in group_rows(table, groups)),
        others=(*others, *paper.lines(results, table)),
    )
    sweep = results.params.sweep
    return shown if sweep is None else trials.with_values(shown, sweep, groups)


def _of_baseline(table: ScoreTable, columns: Sequence[Column], score: Score) -> Line:
    """What grey pixels tell, in the column of the probe that was asked, or else the first."""
    title = probe_name(score.probe if score.probe in table.probes else table.probes[0])
    cells = [
        Cell(percent(score.top1) if (column.group, column.title) == (title, "top-1") else "")
        for column in columns
    ]
    how = "grey pixels at 12×12, logistic regression"
    return Line(score.baseline, cells=tuple(cells), description=how)


def _line(table: ScoreTable, row: GroupRow) -> Line:
    cells = [part for cell in row.cells for part in _cells(table, row.group, cell)]
    first = row.group.first
    return Line(
        row.group.name,
        scored=row.scored,
        seeds=len(row.group.runs),
        cells=tuple(cells),
        description=first.description,
    )


def _cells(table: ScoreTable, group: Group, cell: GroupCell | None) -> list[Cell]:
    """A probe's top-1, top-5 where there is one, and gain."""
    if cell is None:
        return [Cell("skipped"), *[Cell("")] * (1 + table.with_top5)]
    if not cell.learned:
        return [_of_no_result(cell), *[Cell("")] * (1 + table.with_top5)]
    top1, deviation, warning = cell.top1, "", ""
    notes = []
    if top1.std is not None:
        deviation = f"± {percent(top1.std)}"
        if top1.n != len(group.runs):
            deviation += f" (n = {top1.n})"
    if cell.interval is not None:
        low, high = map(percent, cell.interval)
        notes.append((f"{low}–{high}", "95 % interval for another draw of as many test clips"))
    if cell.constant is not None:
        warning = "one answer for all"
    elif cell.above is False:
        warning = "not above commonest class"
    shown = [
        Cell(
            percent(top1.mean),
            top1.mean,
            deviation,
            is_best=cell.best,
            notes=tuple(notes),
            warning=warning,
            bar=(100 * top1.mean, 100 * table.chance),
        )
    ]
    if table.with_top5 and cell.top5:
        std = cell.top5.std
        spread = "" if std is None else f"± {percent(std)}"
        shown.append(Cell(percent(cell.top5.mean), cell.top5.mean, spread))
    elif table.with_top5:
        shown.append(Cell("–"))
    is_shown = cell.gain_p is not None and cell.gain_p < comparison.LEVEL
    text = points(cell.gain) if is_shown or cell.gain is None else f"({points(cell.gain)})"
    is_worse = is_shown and cell.gain is not None and cell.gain < 0
    return [*shown, Cell(text, cell.gain or 0.0, is_worse=is_worse)]


def _of_no_result(cell: GroupCell) -> Cell:
    """The cell of a probe that gives one answer to every clip, whose score says nothing."""
    what = f"one answer for all: {percent(cell.top1.mean)}"
    return Cell("did not learn", notes=((what, "top-1 of an answer that is the same for all"),))
