"""`evaluation.json` and `metrics.json` of an experiment, and the paragraph that begins the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report.comparison import LEVEL
from pipeline.report.formats import count, environment
from pipeline.report.results import Results
from pipeline.report.seeds import Group, group_rows, seed_groups, verdicts
from pipeline.report.tables import ScoreTable, probe_name, score_tables
from pipeline.runtime.files import sha256_file
from pipeline.runtime.provenance import code_version, provenance


def evaluation(results: Results) -> dict[str, Any]:
    """Return all runs' scores together, as JSON values, with the hashes of what they are from."""
    runs = results.runs
    further = {"further": [_on_data(each) for each in results.further]} if results.further else {}
    return {
        "experiment": results.params.name,
        **_on_data(results),
        **further,
        "inputs": {
            "index": sha256_file(results.data.index),
            **{each.data.name: sha256_file(each.data.index) for each in results.further},
            "weights": {run.name: run.evaluated["inputs"]["weights"] for run in runs},
            "runs": {run.name: _scored(results, run.name) for run in runs},
        },
        "settings": results.params.model_dump(mode="json"),
        "code": code_version(),
        "provenance": provenance(),
    }


def _on_data(results: Results) -> dict[str, Any]:
    """Return the scores on one data set, and what it consists of."""
    rows = {
        part: [
            {"run": run.name, **each.model_dump(mode="json")}
            for run in results.runs
            for each in getattr(run, part)
        ]
        for part in ("scores", "validation", "baselines", "skipped")
    }
    return {
        **rows,
        "data": {
            "name": results.index.name,
            "census": results.index.census,
            "splits": results.index.splits,
            "shards": {shard.name: shard.sha256 for shard in results.index.shards},
        },
    }


def _scored(results: Results, name: str) -> dict[str, str]:
    """Hash the files that hold a run's scores on all data sets, by their place in its folder."""
    return {
        path.relative_to(run.layout.folder).as_posix(): sha256_file(path)
        for each in (results, *results.further)
        for run in each.runs
        if run.name == name
        for path in map(run.layout.result, run.results)
    }


def metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return every benchmark's scores by run, few enough for DVC's tables.

    Run -> label -> probe -> top-1 on test, and `val_` with the probe -> top-1 on val; run ->
    `segmentation` -> data, frames and protocol -> mIoU; run -> `severe` -> task -> its score. All
    are shares from 0 to 1, but for SEVERE's counting, which is an error and has no upper bound.
    On a further data set, its name and `/` come before the label, or what stands in its place.
    """
    metrics_by_run: dict[str, dict[str, dict[str, float]]] = {}
    for each in (results, *results.further):
        prefix = "" if each is results else f"{each.data.name}/"
        for run in each.runs:
            of_run = metrics_by_run.setdefault(run.name, {})
            for benchmark, body in run.results.items():
                for group, name, value in BENCHMARKS[benchmark].metrics(body):
                    of_run.setdefault(f"{prefix}{group}", {})[name] = value
    return metrics_by_run


def paragraph(results: Results) -> str:
    """Say in a few sentences what was done and what came of it."""
    tables = [table for table in score_tables(results) if not table.beside]
    groups = seed_groups(results.runs)
    pretrained = [run for run in results.trained if run.settings.weights is None]
    splits = set(results.params.data.pretrain_splits) & results.index.splits.keys()
    probes = dict.fromkeys(probe_name(probe) for table in tables for probe in table.probes)
    scored = dict.fromkeys(count(t.first.scored, f"{t.split} clip") for t in tables)
    text = (
        environment()
        .get_template("summary.txt")
        .render(
            results=results,
            pretrained=pretrained,
            pretrained_groups=seed_groups(pretrained),
            clips=sum(results.index.splits[split] for split in splits),
            untrained=[group.name for group in groups if not group.first.trained],
            probes=list(probes),
            scored=list(scored),
            findings=[_finding(table, groups) for table in tables],
            level=LEVEL,
        )
    )
    return " ".join(text.split())


def _finding(table: ScoreTable, groups: Sequence[Group]) -> dict[str, Any]:
    """Return who is highest on a label by the first probe, and what to compare that with.

    It is the first one by which anything was learned.
    """
    known = verdicts(table, groups)
    place = next((place for place, verdict in enumerate(known) if verdict.highest), 0)
    verdict = known[place]
    cells = {row.group.name: c for row in group_rows(table, groups) if (c := row.cells[place])}
    baseline = next((g.name for g in groups if not g.first.trained and g.name in cells), "")
    worse = [(n, cell) for n, cell in cells.items() if cell.gain is not None and cell.gain < 0]
    return {
        "table": table,
        "verdict": verdict,
        "cells": cells,
        "baseline": "" if baseline in verdict.highest else baseline,
        "worse": worse,
    }
