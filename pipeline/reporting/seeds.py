"""Runs that differ in their seed alone, and how far their scores are spread.

Which runs belong together is read from their settings, not from their names.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from pipeline.reporting.results import RunResult
from pipeline.reporting.tables import Cell, ScoreTable

SEED_IN_NAME = re.compile(r"[_-]+(seed|s)?\d*$")


@dataclass(frozen=True)
class Group:
    """Runs with equal settings but for `trainer.seed`; most often a single one."""

    name: str
    runs: tuple[RunResult, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.settings.trainer.seed for run in self.runs)

    @property
    def first(self) -> RunResult:
        return self.runs[0]

    @property
    def spread(self) -> bool:
        """Whether there are several seeds."""
        return len(self.runs) > 1


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of the sample, n - 1) of n values; None of a single one."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class GroupCell:
    """A group's scores by one probe, shares from 0 to 1.

    `gain` is the distance of the mean to that of no training, None where there is none to compare;
    `interval` is what the number of clips leaves open (95 %), None of several seeds.
    """

    top1: Spread
    top5: Spread | None
    best: bool
    best5: bool
    gain: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class GroupRow:
    """A cell per probe of a table; None where no run of the group was scored by it."""

    group: Group
    cells: tuple[GroupCell | None, ...]
    scored: str


def groups(runs: Sequence[RunResult]) -> tuple[Group, ...]:
    """Group runs by their settings without the seed, in the order of their first ones."""
    found: dict[str, list[RunResult]] = {}
    for run in runs:
        found.setdefault(_settings(run), []).append(run)
    taken = {run.name for run in runs}
    named: list[Group] = []
    for members in found.values():
        name = members[0].name
        if len(members) > 1:
            short = _common([member.name for member in members])
            others = taken - {member.name for member in members}
            if short and short not in others | {group.name for group in named}:
                name = short
        named.append(Group(name, tuple(members)))
    return tuple(named)


def alone(runs: Sequence[RunResult]) -> tuple[Group, ...]:
    """Return every run as a group of its own."""
    return tuple(Group(run.name, (run,)) for run in runs)


def colours(found: Sequence[Group], count: int) -> dict[str, int]:
    """Return a colour's number for every run and group: seeds of one group share theirs."""
    places = {name: k % count for k, group in enumerate(found) for name in group.names}
    return places | {group.name: k % count for k, group in enumerate(found)}


def spread(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def group_rows(table: ScoreTable, found: Sequence[Group]) -> list[GroupRow]:
    """Return a row per group; the best mean of a column is marked."""
    by_name = {row.run.name: row for row in table.rows}
    rows = {group.name: [by_name[name] for name in group.names] for group in found}
    columns = []
    for place in range(len(table.probes)):
        cells = {
            group.name: [cell for row in rows[group.name] if (cell := row.cells[place])]
            for group in found
        }
        columns.append(_column(found, cells))
    return [
        GroupRow(
            group,
            tuple(column[place] for column in columns),
            "; ".join(dict.fromkeys(row.scored for row in rows[group.name] if row.scored)),
        )
        for place, group in enumerate(found)
    ]


def _column(found: Sequence[Group], cells: dict[str, list[Cell]]) -> list[GroupCell | None]:
    top1 = {name: spread([c.score.top1 for c in here]) for name, here in cells.items() if here}
    known5 = {name: [c.top5 for c in here if c.top5 is not None] for name, here in cells.items()}
    top5 = {name: spread(values) for name, values in known5.items() if values}
    best = max((each.mean for each in top1.values()), default=0.0)
    best5 = max((each.mean for each in top5.values()), default=0.0)
    untrained = next((g.name for g in found if not g.first.trained and g.name in top1), "")
    column: list[GroupCell | None] = []
    for group in found:
        if group.name not in top1:
            column.append(None)
            continue
        mean, fifth = top1[group.name], top5.get(group.name)
        compared = untrained and group.first.trained
        column.append(
            GroupCell(
                mean,
                fifth,
                best=mean.mean == best,
                best5=fifth is not None and fifth.mean == best5,
                gain=mean.mean - top1[untrained].mean if compared else None,
                interval=cells[group.name][0].interval if mean.n == 1 else None,
            )
        )
    return column


def _settings(run: RunResult) -> str:
    """Return what decides a run's result, but for the seed, as one string.

    Of an untrained encoder this is its shape alone: how it would have been trained decides nothing.
    """
    values = run.settings.model_dump(mode="json")
    if not run.trained:
        values = {"model": values["model"]}
    else:
        del values["trainer"]["seed"]
    return json.dumps(values, sort_keys=True)


def _common(names: Sequence[str]) -> str:
    """Return what the names begin with, without what announces a seed: `sigma` of `sigma_s1`."""
    together = zip(*names, strict=False)  # characters that stand at the same place
    prefix = "".join(each[0] for each in takewhile(lambda each: len(set(each)) == 1, together))
    return prefix if prefix in names else SEED_IN_NAME.sub("", prefix)
