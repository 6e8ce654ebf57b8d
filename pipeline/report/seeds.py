"""Runs that differ in their seed alone, and how far their scores are spread.

Which runs belong together is read from their settings, not from their names.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from pipeline.report import comparison
from pipeline.report.results import RunResult
from pipeline.report.tables import Cell, ScoreTable

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

    `best` is shown to be higher than every other group. `gain` is the distance of the mean to that
    of no training, None where there is none to compare, and `gain_p` the p of a test of it.
    `interval` is what the number of clips leaves open (95 %), None of several seeds. `above` says
    whether the score is shown to be above the commonest class; `constant` is the answer, where it
    is the same one for every clip.
    """

    top1: Spread
    top5: Spread | None
    best: bool
    gain: float | None
    gain_p: float | None
    interval: tuple[float, float] | None
    above: bool | None
    constant: str | None


@dataclass(frozen=True)
class Verdict:
    """Who is highest in a column, and what a test says of that.

    `highest` are several where they are level. `p` is the largest of the tests against every other
    group, with those in `doubtful` (largest first) no difference is shown; `p` is None where there
    is nobody to compare with, or no test can be made.
    """

    probe: str
    highest: tuple[str, ...]
    others: tuple[str, ...]
    p: float | None
    doubtful: tuple[str, ...]
    test: str

    @property
    def shown(self) -> bool:
        """Whether one is better than every other group."""
        return len(self.highest) == 1 and self.p is not None and self.p < comparison.LEVEL


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
    """Return a row per group; what is shown to be the best of a column is marked."""
    columns = [
        _cells(table, verdict, cells, found)
        for verdict, cells in zip(verdicts(table, found), _columns(table, found), strict=True)
    ]
    rows = {row.run.name: row for row in table.rows}
    return [
        GroupRow(
            group,
            tuple(column.get(group.name) for column in columns),
            "; ".join(dict.fromkeys(s for name in group.names if (s := rows[name].scored))),
        )
        for group in found
    ]


def verdicts(table: ScoreTable, found: Sequence[Group]) -> list[Verdict]:
    """Return for each column who is highest, and whether a test shows it."""
    return [
        _verdict(table, probe, cells, found)
        for probe, cells in zip(table.probes, _columns(table, found), strict=True)
    ]


def _columns(table: ScoreTable, found: Sequence[Group]) -> list[dict[str, list[Cell]]]:
    """Return for each probe the cells of every group; none where it was not scored."""
    rows = {row.run.name: row for row in table.rows}
    return [
        {group.name: [c for n in group.names if (c := rows[n].cells[place])] for group in found}
        for place in range(len(table.probes))
    ]


def _verdict(
    table: ScoreTable, probe: str, cells: dict[str, list[Cell]], found: Sequence[Group]
) -> Verdict:
    groups = [group for group in found if cells[group.name]]
    means = {group.name: _mean(cells[group.name]) for group in groups}
    top = max(means.values(), default=0.0)
    highest = tuple(name for name, mean in means.items() if math.isclose(mean, top))
    others = [group for group in groups if group.name not in highest]
    first = next(group for group in groups if group.name in highest)
    tested = [(_p(table, probe, first, other, cells), other) for other in others]
    known = sorted(((p, o.name) for p, o in tested if p is not None), reverse=True)
    seeded = any(len(cells[group.name]) > 1 for group in groups)
    return Verdict(
        probe,
        highest,
        tuple(other.name for other in others),
        known[0][0] if known and len(known) == len(tested) else None,
        tuple(name for p, name in known if p >= comparison.LEVEL),
        comparison.SEEDS if seeded else comparison.CLIPS,
    )


def _p(
    table: ScoreTable, probe: str, first: Group, second: Group, cells: dict[str, list[Cell]]
) -> float | None:
    """The p of a test of two groups' difference; None where none can be made."""
    if table.beside:
        return None  # val chose settings: no claim rests on it
    scores = [[cell.score.top1 for cell in cells[group.name]] for group in (first, second)]
    if max(map(len, scores)) > 1:
        return comparison.seeds(*scores)
    asked = (table.label, probe)
    return comparison.clips(first.first.right.get(asked, {}), second.first.right.get(asked, {}))


def _cells(
    table: ScoreTable, verdict: Verdict, cells: dict[str, list[Cell]], found: Sequence[Group]
) -> dict[str, GroupCell]:
    """Return a column's cells by group."""
    groups = [group for group in found if cells[group.name]]
    untrained = next((group for group in groups if not group.first.trained), None)
    column = {}
    for group in groups:
        scores = [cell.score for cell in cells[group.name]]
        top1 = spread([score.top1 for score in scores])
        top5 = [cell.top5 for cell in cells[group.name] if cell.top5 is not None]
        gain = p = None
        if untrained and group.first.trained:
            gain = top1.mean - _mean(cells[untrained.name])
            p = _p(table, verdict.probe, group, untrained, cells)
        constant = {score.constant for score in scores}
        column[group.name] = GroupCell(
            top1,
            spread(top5) if top5 else None,
            best=verdict.shown and group.name in verdict.highest,
            gain=gain,
            gain_p=p,
            interval=cells[group.name][0].interval if len(scores) == 1 else None,
            above=_above(cells[group.name]),
            constant=constant.pop() if len(constant) == 1 else None,
        )
    return column


def _above(cells: Sequence[Cell]) -> bool | None:
    """Whether the commonest class is below the interval of the score; None of an older score."""
    majority = cells[0].score.majority
    if majority is None:
        return None
    if len(cells) == 1:
        return cells[0].interval[0] > majority
    return comparison.above([cell.score.top1 for cell in cells], majority)


def _mean(cells: Sequence[Cell]) -> float:
    return statistics.fmean(cell.score.top1 for cell in cells)


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
