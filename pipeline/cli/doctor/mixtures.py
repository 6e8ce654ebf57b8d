"""Mixtures that runs are pretrained on: is each component in the list, are its files there?"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.sources import MOST_ROWS, ListSummary
from pipeline.configuration.schema import Data, Mixture, Params
from pipeline.errors import UserError

SHOWN = 8  # components in one line


def components(params: Params) -> Iterator[Finding]:
    """What the list has of each component of each run's mixture; nothing where there is no list."""
    data = params.data
    if data.manifest is None or not Path(data.manifest).is_file():
        return
    for name, run in params.runs.items():
        if run.trainer.mixture is not None and run.trainer.epochs:
            yield from _of_run(data, name, run.trainer.mixture)


def _of_run(data: Data, run: str, mixture: Mixture) -> Iterator[Finding]:
    subject, column = f"mixture of {run}", mixture.column
    counted = _by_value(data, column)
    try:
        clips = {value: summary.rows for value, summary in counted.items()}
        mixture.check(clips, f"runs.{run}.trainer.mixture")
    except UserError as error:
        yield missing(subject, error.problem, error.remedy, needed=True)
        return
    yield ok(subject, f"by {column}: {_described(mixture, clips)}")
    for value, summary in counted.items():
        yield from _of_files(f"{value} in the {subject}", summary)


def _of_files(subject: str, component: ListSummary) -> Iterator[Finding]:
    """A component without a clip ends a training before its first step, as no share is possible."""
    if component.missing_files == component.rows:
        problem = f"none of {component.rows:,} files is there, such as {component.first_missing}"
        remedy = "paths are relative to the list's folder; or take its weight and rows away"
        yield missing(subject, problem, remedy, needed=True)
    elif component.missing_files:
        found = f"{component.missing_files:,} of {component.rows:,} files are not there"
        remedy = f"the others come more often for it; one is {component.first_missing}"
        yield warning(subject, found, remedy)


def _by_value(data: Data, column: str) -> dict[str, ListSummary]:
    """Count, by the value of a column, what the list asks for of clips to pretrain on."""
    path, counted = Path(data.manifest or ""), dict[str, ListSummary]()
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as handle:
        rows = csv.DictReader(handle)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        for row in itertools.islice(rows, MOST_ROWS):
            if ((row.get("split") or "").strip() or "train") in data.pretrain_splits:
                value = (row.get(column) or "").strip()
                counted.setdefault(value, ListSummary()).add(row, path.parent)
    return counted


def _described(mixture: Mixture, clips: Mapping[str, int]) -> str:
    """Say of each component its share, its clips and how often each comes in an epoch."""
    whole, total = sum(mixture.weights.values()), sum(clips.values())
    parts = []
    for value, weight in mixture.weights.items():
        share, count = weight / whole, clips[value]
        times = share * total / count
        parts.append(f"{value} {share:.1%} ({count:,} clips, each {times:.2g} times an epoch)")
    more = [f"and {len(parts) - SHOWN:,} more"] if len(parts) > SHOWN else []
    return ", ".join([*parts[:SHOWN], *more])
