"""The table of runs, one per label: what the terminal and the page both show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.results import Results, RunResult, Score

PROBE_NAMES = {
    "linear": "linear probe",
    "attentive": "attentive probe",
    "knn": "k-NN",
    "finetune": "fine-tuned",
}


@dataclass(frozen=True)
class Cell:
    """One score. All values but counts are shares from 0 to 1; `gain` is a difference of two."""

    score: Score
    best1: bool  # of its column
    best5: bool
    gain: float | None  # top-1 above the untrained encoder; None where there is none to compare

    @property
    def top5(self) -> float | None:
        """None where it says nothing: of five classes or fewer."""
        return self.score.top5 if self.score.classes > 5 else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.score.top1, self.score.scored)


@dataclass(frozen=True)
class Row:
    """One run: a cell per probe, None where the probe was skipped."""

    run: RunResult
    cells: tuple[Cell | None, ...]

    @property
    def scored(self) -> str:
        """On how many clips of how many, such as `790 of 800`."""
        counts = sorted({(cell.score.scored, cell.score.of) for cell in self.cells if cell})
        return "; ".join(f"{scored:,} of {of:,}" for scored, of in counts)


@dataclass(frozen=True)
class ScoreTable:
    """All runs' scores for one label on one split."""

    label: str
    split: str
    probes: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def first(self) -> Score:
        return next(cell.score for row in self.rows for cell in row.cells if cell)

    @property
    def classes(self) -> int:
        return self.first.classes

    @property
    def chance(self) -> float:
        """Expected share of right answers by guessing uniformly."""
        return 1 / self.classes if self.first.chance is None else self.first.chance

    @property
    def baseline(self) -> Row | None:
        return next((row for row in self.rows if not row.run.trained), None)

    @property
    def with_top5(self) -> bool:
        return any(cell and cell.top5 is not None for row in self.rows for cell in row.cells)

    def best(self, probe: str) -> Row | None:
        """Return the first run with the best top-1 of this probe."""
        column = self.probes.index(probe)
        return next(
            (row for row in self.rows if (cell := row.cells[column]) and cell.best1),
            None,
        )


@dataclass(frozen=True)
class Note:
    """A probe that was skipped, or clips that it left out, and for which runs."""

    label: str
    probe: str
    reason: str
    runs: tuple[str, ...]
    clips: int

    @property
    def skipped(self) -> bool:
        """True where the probe was not run at all."""
        return self.clips == 0


def probe_name(probe: str) -> str:
    return PROBE_NAMES.get(probe, probe)


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share of n clips (Wilson 1927, "Probable Inference").

    It tells how far another draw of as many test clips could move the score; it says nothing of
    another seed.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def score_tables(results: Results) -> list[ScoreTable]:
    """Return a table per label and split, in the order of `data.labels`."""
    found = {(score.label, score.split) for run in results.runs for score in run.scores}
    order = {label: place for place, label in enumerate(results.params.data.labels)}
    keys = sorted(found, key=lambda key: (order.get(key[0], len(order)), key))
    return [_table(results.runs, label, split) for label, split in keys]


def notes(results: Results) -> list[Note]:
    """Return what was skipped or left out; what is equal for several runs is said once."""
    merged: dict[tuple[str, str, str, int], list[str]] = {}
    for run in results.runs:
        for note in run.skipped:
            merged.setdefault((note.label, note.probe, note.reason, note.clips), []).append(
                run.name
            )
    return [
        Note(label, probe, reason, tuple(runs), clips)
        for (label, probe, reason, clips), runs in merged.items()
    ]


def _table(runs: Sequence[RunResult], label: str, split: str) -> ScoreTable:
    def of(run: RunResult, probe: str) -> Score | None:
        rows = (s for s in run.scores if (s.label, s.probe, s.split) == (label, probe, split))
        return next(rows, None)

    here = [s for run in runs for s in run.scores if (s.label, s.split) == (label, split)]
    probes = tuple(dict.fromkeys(score.probe for score in here))
    columns = [_column([of(run, probe) for run in runs], runs) for probe in probes]
    rows = tuple(
        Row(run, cells) for run, cells in zip(runs, zip(*columns, strict=True), strict=True)
    )
    return ScoreTable(label, split, probes, rows)


def _column(scores: Sequence[Score | None], runs: Sequence[RunResult]) -> list[Cell | None]:
    top1 = max(score.top1 for score in scores if score)
    top5 = max((score.top5 for score in scores if score and score.top5 is not None), default=None)
    untrained = (s for s, run in zip(scores, runs, strict=True) if s and not run.trained)
    baseline = next(untrained, None)
    return [
        Cell(
            score,
            best1=score.top1 == top1,
            best5=top5 is not None and score.top5 == top5,
            gain=score.top1 - baseline.top1 if baseline and run.trained else None,
        )
        if score
        else None
        for score, run in zip(scores, runs, strict=True)
    ]
