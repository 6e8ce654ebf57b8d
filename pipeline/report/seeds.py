"""Runs that differ in their seed alone, and how far their scores differ.

Which runs belong together is read from their settings, not from their names.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from pipeline.report import comparison
from pipeline.report.results import RunResult, Score
from pipeline.report.tables import ScoreTable

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
    def has_several_seeds(self) -> bool:
        return len(self.runs) > 1


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation (of the sample, n - 1) of n values; None of a single one."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class GroupCell:
    """A group's scores by one probe, shares from 0 to 1.

    `best` is shown to be higher than every other group. `gain` is the distance of the mean to that
    of no training, None where there is none to compare, and `gain_p` the p of a test of it.
    `interval` is what the number of clips leaves open (95 %), None of several seeds. `above` says
    whether the score is shown to be above the commonest class, `above_grey`, of trained encoders,
    above the better baseline on grey pixels; `constant` is the answer, where it is the same one for
    every clip. What no seed has `learned` is compared with nothing.
    """

    top1: MeanStd
    top5: MeanStd | None
    best: bool
    gain: float | None
    gain_p: float | None
    interval: tuple[float, float] | None
    above: bool | None
    constant: str | None
    learned: bool = True
    above_grey: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """Who is highest in a column, and what a test says of that.

    `highest` are several where they are level, and nobody where nobody learned. `p` is the largest
    of the tests against every other group, with those in `doubtful` (largest first) no difference
    is shown; `p` is None where there is nobody to compare with, or no test can be made.
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


def seed_groups(runs: Sequence[RunResult]) -> tuple[Group, ...]:
    """Group runs by their settings without the seed, in the order of their first ones."""
    by_settings: dict[str, list[RunResult]] = {}
    for run in runs:
        by_settings.setdefault(_settings(run), []).append(run)
    run_names = {run.name for run in runs}
    groups: list[Group] = []
    for members in by_settings.values():
        name = members[0].name
        if len(members) > 1:
            short = _common_name([member.name for member in members])
            others = run_names - {member.name for member in members}
            if short and short not in others | {group.name for group in groups}:
                name = short
        groups.append(Group(name, tuple(members)))
    return tuple(groups)


def single_groups(runs: Sequence[RunResult]) -> tuple[Group, ...]:
    """Return every run as a group of its own."""
    return tuple(Group(run.name, (run,)) for run in runs)


def colours(groups: Sequence[Group], count: int) -> dict[str, int]:
    """Return a colour's number for every run and group: seeds of one group share theirs."""
    places = {name: k % count for k, group in enumerate(groups) for name in group.names}
    return places | {group.name: k % count for k, group in enumerate(groups)}


def mean_std(values: Sequence[float]) -> MeanStd:
    """Return mean and standard deviation of at least one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return MeanStd(statistics.fmean(values), std, len(values))


def group_rows(table: ScoreTable, groups: Sequence[Group]) -> list[GroupRow]:
    """Return a row per group; what is shown to be the best of a column is marked."""
    columns = [column.group_cells() for column in _columns(table, groups)]
    rows = {row.run.name: row for row in table.rows}
    return [
        GroupRow(
            group,
            tuple(column.get(group.name) for column in columns),
            "; ".join(dict.fromkeys(s for name in group.names if (s := rows[name].scored))),
        )
        for group in groups
    ]


def verdicts(table: ScoreTable, groups: Sequence[Group]) -> list[Verdict]:
    """Return for each column who is highest, and whether a test shows it."""
    return [column.verdict() for column in _columns(table, groups)]


def _columns(table: ScoreTable, groups: Sequence[Group]) -> list[_Column]:
    rows = {row.run.name: row.scores for row in table.rows}
    columns = []
    for place, probe in enumerate(table.probes):
        scores = {g.name: [s for name in g.names if (s := rows[name][place])] for g in groups}
        scored = [group for group in groups if scores[group.name]]
        columns.append(_Column(table, probe, scored, scores))
    return columns


@dataclass(frozen=True)
class _Column:
    """The scores of one probe: the groups that have any, and those of each."""

    table: ScoreTable
    probe: str
    groups: Sequence[Group]
    scores: Mapping[str, Sequence[Score]]

    def learned(self, group: Group) -> bool:
        return any(score.learned for score in self.scores[group.name])

    def mean(self, group: Group) -> float:
        return statistics.fmean(score.top1 for score in self.scores[group.name])

    def p(self, first: Group, second: Group) -> float | None:
        """The p of a test of two groups' difference; None where none can be made."""
        if self.table.beside:
            return None  # val chose settings: no claim rests on it
        scores = [[score.top1 for score in self.scores[g.name]] for g in (first, second)]
        if max(map(len, scores)) > 1:
            return comparison.seeds(*scores)
        key = (self.table.label, self.probe)
        return comparison.clips(first.first.right.get(key, {}), second.first.right.get(key, {}))

    def verdict(self) -> Verdict:
        """Who is highest, and what tests against all others say."""
        learned = [group for group in self.groups if self.learned(group)]
        means = {group.name: self.mean(group) for group in learned}
        top = max(means.values(), default=0.0)
        highest = [group for group in learned if math.isclose(means[group.name], top)]
        others = [group for group in learned if group not in highest]
        tested = [(self.p(highest[0], other), other.name) for other in others]
        known = sorted(((p, name) for p, name in tested if p is not None), reverse=True)
        has_seeds = any(len(self.scores[group.name]) > 1 for group in self.groups)
        return Verdict(
            self.probe,
            tuple(group.name for group in highest),
            tuple(other.name for other in others),
            known[0][0] if known and len(known) == len(tested) else None,
            tuple(name for p, name in known if p >= comparison.LEVEL),
            comparison.SEEDS if has_seeds else comparison.CLIPS,
        )

    def group_cells(self) -> dict[str, GroupCell]:
        """Return the cell of each group."""
        verdict = self.verdict()
        untrained = next((group for group in self.groups if not group.first.trained), None)
        grey = max((score.top1 for score in self.table.baselines), default=None)
        cells = {}
        for group in self.groups:
            scores = self.scores[group.name]
            top5 = [score.shown_top5 for score in scores if score.shown_top5 is not None]
            gain = p = None
            compared = untrained and self.learned(untrained) and self.learned(group)
            if untrained and compared and group.first.trained:
                gain = self.mean(group) - self.mean(untrained)
                p = self.p(group, untrained)
            constant = {score.constant for score in scores}
            cells[group.name] = GroupCell(
                mean_std([score.top1 for score in scores]),
                mean_std(top5) if top5 else None,
                best=verdict.shown and group.name in verdict.highest,
                gain=gain,
                gain_p=p,
                interval=scores[0].interval if len(scores) == 1 else None,
                above=_above(scores, scores[0].majority),
                constant=constant.pop() if len(constant) == 1 else None,
                learned=self.learned(group),
                above_grey=_above(scores, grey) if group.first.trained else None,
            )
        return cells


def _above(scores: Sequence[Score], share: float | None) -> bool | None:
    """Whether a share of right answers is below the interval of the score; None of no share."""
    if share is None:
        return None
    if len(scores) == 1:
        return scores[0].interval[0] > share
    return comparison.above([score.top1 for score in scores], share)


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


def _common_name(names: Sequence[str]) -> str:
    """Return what the names begin with, without what announces a seed: `sigma` of `sigma_s1`."""
    together = zip(*names, strict=False)  # characters that stand at the same place
    prefix = "".join(each[0] for each in takewhile(lambda each: len(set(each)) == 1, together))
    return prefix if prefix in names else SEED_IN_NAME.sub("", prefix)
