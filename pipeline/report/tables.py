"""The table of runs, one per label: what the terminal and the page both show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.evaluation.recognition.settings import PROBE_NAMES
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report.results import Results, RunResult, Score


@dataclass(frozen=True)
class Row:
    """One run: a score per probe, None where the probe was skipped."""

    run: RunResult
    scores: tuple[Score | None, ...]

    @property
    def scored(self) -> str:
        """On how many clips of how many that were asked about, such as `790 of 800`."""
        return "; ".join(sorted({score.counts for score in self.scores if score}))


@dataclass(frozen=True)
class ScoreTable:
    """All runs' scores for one label on one split.

    `beside` marks those on `val` where test is scored, too: settings were chosen on these clips.
    """

    label: str
    split: str
    probes: tuple[str, ...]
    rows: tuple[Row, ...]
    beside: bool = False
    baselines: tuple[Score, ...] = ()  # by the linear probe on grey pixels in place of features

    @property
    def first(self) -> Score:
        return next(score for row in self.rows for score in row.scores if score)

    @property
    def classes(self) -> int:
        return self.first.classes

    @property
    def chance(self) -> float:
        """Expected share of right answers by guessing uniformly."""
        return 1 / self.classes if self.first.chance is None else self.first.chance

    @property
    def with_top5(self) -> bool:
        known = any(s and s.shown_top5 is not None for row in self.rows for s in row.scores)
        return known and not self.beside


@dataclass(frozen=True)
class Note:
    """A probe or benchmark that was skipped, or clips that it left out, and for which runs."""

    label: str  # or the benchmark's title
    probe: str  # or what a benchmark leaves out; empty: all of it
    reason: str
    runs: tuple[str, ...]
    clips: int

    @property
    def skipped(self) -> bool:
        """True where the probe was not run at all."""
        return self.clips == 0

    @property
    def subject(self) -> str:
        """What was skipped, in words."""
        return ", ".join(filter(None, (self.label, probe_name(self.probe))))


def probe_name(probe: str) -> str:
    return PROBE_NAMES.get(probe, probe)


def score_tables(results: Results) -> list[ScoreTable]:
    """Return a table per label and split, in the order of `data.labels`; those on val last."""
    order = {label: place for place, label in enumerate(results.params.data.labels)}
    tables = []
    for beside in (False, True):
        scores = [(run, run.validation if beside else run.scores) for run in results.runs]
        keys = {(score.label, score.split) for _, rows in scores for score in rows}
        for key in sorted(keys, key=lambda key: (order.get(key[0], len(order)), key)):
            tables.append(_table(scores, *key, beside=beside))
    return tables


def notes(results: Results) -> list[Note]:
    """Return what was skipped or left out; what is equal for several runs stands there once."""
    merged: dict[tuple[str, str, str, int], list[str]] = {}
    for run in results.runs:
        of_probes = [(note.label, note.probe, note.reason, note.clips) for note in run.skipped]
        for key in (*of_probes, *_of_benchmarks(results, run)):
            merged.setdefault(key, []).append(run.name)
    return [
        Note(label, probe, reason, tuple(runs), clips)
        for (label, probe, reason, clips), runs in merged.items()
    ]


def _of_benchmarks(results: Results, run: RunResult) -> Iterator[tuple[str, str, str, int]]:
    """Name each benchmark beyond recognition that was asked for and has not run, or not wholly."""
    for name, parts in results.params.left_out.items():
        reason = f"it needs {results.params.left_out_for}"
        yield BENCHMARKS[name].title, ", ".join(parts), reason, 0
    for name, benchmark in BENCHMARKS.items():
        if name == "evaluation" or run.name not in benchmark.runs(results.params):
            continue
        if name not in run.results:
            reason = f"it has not run yet: python -m pipeline {benchmark.stage} --run NAME"
            yield benchmark.title, "", reason, 0
            continue
        for note in run.results[name].get("skipped", ()):
            what = next((note[key] for key in ("label", "task", "data") if key in note), "")
            yield benchmark.title, what, note.get("reason", ""), 0


def _table(
    scores: Sequence[tuple[RunResult, Sequence[Score]]], label: str, split: str, *, beside: bool
) -> ScoreTable:
    here = {
        run.name: {s.probe: s for s in rows if (s.label, s.split) == (label, split)}
        for run, rows in scores
    }
    probes = tuple(dict.fromkeys(probe for cells in here.values() for probe in cells))
    rows = tuple(Row(run, tuple(here[run.name].get(p) for p in probes)) for run, _ in scores)
    by_name = {
        score.baseline: score
        for run, _ in scores
        for score in run.baselines
        if (score.label, score.split) == (label, split)
    }
    return ScoreTable(label, split, probes, rows, beside, tuple(by_name.values()))
