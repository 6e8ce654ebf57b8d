"""What numbers do not say by themselves: which differences are shown, and what learned nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.errors import UserError
from pipeline.method.losses import SinkhornLoss
from pipeline.method.targets import PixelTarget
from pipeline.report import comparison
from pipeline.report.comparison import p_text
from pipeline.report.neighbours import read_queries
from pipeline.report.results import RunResult
from pipeline.report.seeds import Group, GroupCell, Verdict, group_rows, verdicts
from pipeline.report.tables import ScoreTable, probe_name
from pipeline.training.logs import RANKME

ALIKE = 2.0  # RankMe; less is fewer than two directions
SAME_DIRECTION = 0.999  # mean cosine of two clips' features; untrained on the demo: 0.98
UNEVEN = 0.9  # entropy of the assignments; healthy runs begin above 0.95 (docs/diagnostics.md)
MOST = 0.5  # of the tubes, assigned to one prototype
NO_BETTER = "At the end the loss is hardly or not below what"
OF_THE_MEAN = 0.98  # of the loss that an answer gives which looks at nothing


def remarks(table: ScoreTable, groups: Sequence[Group]) -> list[str]:
    """Return a sentence per kind of thing that a reader of the numbers alone would take wrongly."""
    probes_of: dict[str, list[str]] = {}  # remark -> probes that it is true of
    rows = group_rows(table, groups)
    for place, verdict in enumerate(verdicts(table, groups)):
        cells = {row.group.name: cell for row in rows if (cell := row.cells[place])}
        for what, whom in [*_of_differences(table, verdict), *_of_answers(table, cells)]:
            probes_of.setdefault(what, []).append(f"{probe_name(verdict.probe)} ({whom})")
    return [f"{what}: {', '.join(probes)}." for what, probes in probes_of.items()]


def _of_differences(table: ScoreTable, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What a test says of the highest, and of whom; nothing of one run alone, nor of val."""
    names = ", ".join(verdict.highest)
    if table.beside or len(verdict.highest) + len(verdict.others) < 2:
        return
    if len(verdict.highest) > 1:
        yield "The highest are level", names
    elif verdict.p is None:
        yield "Whether the highest is so by more than chance was not tested", names
    elif verdict.shown:
        yield f"Better than every other run by {verdict.test}", f"{names}, {p_text(verdict.p)}"
    else:
        beside = f"{names} beside {', '.join(verdict.doubtful)}, {p_text(verdict.p)}"
        yield f"No difference of the highest is shown by {verdict.test}", beside


def _of_answers(table: ScoreTable, cells: Mapping[str, GroupCell]) -> Iterator[tuple[str, str]]:
    """What is no better than an answer that looks at no clip, and of whom."""
    for learned, what in (
        (True, "One answer to every clip"),
        (False, "Did not learn: one answer to every clip, so the score is no result"),
    ):
        same = [
            f"{name} “{c.constant or 'another for each seed'}”"
            for name, c in cells.items()
            if (c.constant is not None or not c.learned) and c.learned == learned
        ]
        if same:
            yield what, ", ".join(same)
    below = [
        name for name, c in cells.items() if c.above is False and c.constant is None and c.learned
    ]
    if below:
        share = table.first.majority
        yield f"Not shown to be above the commonest class ({share:.1%})", ", ".join(below)
    yield from _of_baselines(table, cells)
    level = [name for name, c in cells.items() if c.learned and _is_level_with_untrained(c)]
    if level:
        yield "Not shown to be better than no training", ", ".join(level)


def _of_baselines(table: ScoreTable, cells: Mapping[str, GroupCell]) -> Iterator[tuple[str, str]]:
    """Who is not shown to be above the better one of the two baselines on grey pixels."""
    best = max(table.baselines, key=lambda score: score.top1, default=None)
    if best is None:
        return
    below = [name for name, c in cells.items() if c.learned and c.above_grey is False]
    if below:
        yield (
            f"Not shown to be above grey pixels alone ({best.baseline}, {best.top1:.1%})",
            (", ".join(below)),
        )


def _is_level_with_untrained(cell: GroupCell) -> bool:
    """Whether a tested gain over the untrained encoder is none, or not shown."""
    if cell.gain is None or cell.gain_p is None:
        return False
    return cell.gain <= 0 or cell.gain_p >= comparison.LEVEL


def of_training(runs: Sequence[RunResult]) -> list[str]:
    """Return a sentence per thing in the logs that tells of a run that has learned nothing.

    Over each run: the last RankMe of online evaluation, how alike its features are, the assignments
    at the beginning and at the end, and the last loss.
    """
    runs_of: dict[str, list[str]] = {}  # remark -> runs that it is true of
    for run in runs:
        for what, value in [*_of_features(run), *_of_assignments(run), *_of_logs(run)]:
            runs_of.setdefault(what, []).append(f"{run.name} ({value})")
    return [f"{what}: {', '.join(names)}." for what, names in runs_of.items()]


def _of_features(run: RunResult) -> Iterator[tuple[str, str]]:
    """Whether the features of all scored clips point the same way."""
    try:
        queries = read_queries(run)
    except UserError:  # the page says so where it would draw them
        return
    if queries is not None:
        direction = queries.values.mean(axis=0, dtype=np.float64)
        if (cosine := float(direction @ direction)) > SAME_DIRECTION:
            what = "The features of all clips are nearly alike, by the mean cosine of two of them"
            yield what, f"{cosine:.3f}"


def _of_assignments(run: RunResult) -> Iterator[tuple[str, str]]:
    """Whether few prototypes hold most tubes, from the beginning or at the end."""
    entropies = [value for line in run.metrics if (value := line.get("assignment_entropy"))]
    if entropies and entropies[0] < UNEVEN and entropies[-1] < UNEVEN:
        what = (
            "Assignments are uneven from the first line of the log on: many tubes are alike, such "
            "as a constant background (docs/diagnostics.md); entropy"
        )
        yield what, f"{entropies[0]:.2f}, at the end {entropies[-1]:.2f}"
    largest = [value for line in run.metrics if (value := line.get("largest_prototype"))]
    if largest and largest[-1] > MOST:
        yield "At the end one prototype holds most tubes", f"{largest[-1]:.0%}"


def guessing_evenly(loss: SinkhornLoss) -> float:
    """Return the loss of scores that are alike for all prototypes."""
    return (1 + loss.target_weight) * math.log(loss.prototypes)


def _of_logs(run: RunResult) -> Iterator[tuple[str, str]]:
    ranks = [value for line in run.metrics if (value := line.get(RANKME)) is not None]
    if ranks and ranks[-1] < ALIKE:
        yield "At the end the features of all clips are nearly alike, by RankMe", f"{ranks[-1]:.1f}"
    losses = [value for line in run.metrics if (value := line.get("loss")) is not None]
    objective = run.settings.objective
    if not losses or objective.further or objective.weight != 1:
        return
    if isinstance(objective.target, PixelTarget) and objective.target.normalise != "none":
        if objective.loss.kind == "mse" and losses[-1] > OF_THE_MEAN:
            yield f"{NO_BETTER} predicting the mean gives, 1.0", f"{losses[-1]:.3f}"
    elif isinstance(loss := objective.loss, SinkhornLoss):
        even = guessing_evenly(loss)
        if losses[-1] > OF_THE_MEAN * even:
            yield f"{NO_BETTER} guessing evenly gives", f"{losses[-1]:.2f}"
