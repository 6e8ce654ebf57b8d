"""The tables of the benchmarks beyond recognition, one row per run or per group of seeds."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.table import Line, Table
from pipeline.report.results import Results
from pipeline.report.seeds import Group, mean_std


def tables(results: Results) -> list[Table]:
    """Return the tables that there are numbers for."""
    found = []
    for name, benchmark in BENCHMARKS.items():
        if benchmark.table is not None:
            bodies = {run.name: run.results.get(name, {}) for run in results.runs}
            found.append(importlib.import_module(benchmark.table).table(bodies))
    return [table for table in found if table is not None]


def over_seeds(table: Table, found: Sequence[Group]) -> Table:
    """Return the table with a line per group of runs: the mean over its seeds."""
    lines = {line.name: line for line in table.runs}
    return replace(table, runs=tuple(_mean(g, [lines[n] for n in g.names]) for g in found))


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
