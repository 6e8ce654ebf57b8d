"""Several experiments in one table: their scores, read from `evaluation.json` of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.configuration.schema import Params, Sweep, Trial
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.report import results
from pipeline.report.results import Results, RunResult, Score
from pipeline.report.seeds import Group, seed_groups
from pipeline.report.shown_tables import ShownTable, of_scores

# Sections that say nothing of how recognition was scored.
OTHER_SECTIONS = {"name", "runs", "sweep", "model", "objective", "trainer", "plugins"}
OTHER_SECTIONS |= {"segmentation", "severe", "benchmarks", "evaluation_data"}


@dataclass(frozen=True)
class Scored:
    """One experiment: its settings, and its runs with their scores."""

    params: Params
    settings: Mapping[str, Any]  # of data and evaluation, by dotted key
    runs: tuple[RunResult, ...]


def read(experiment: str) -> Scored:
    """Read the scores of an experiment; its runs are called RUN@EXPERIMENT.

    Raises:
        UserError: where there are none, or its settings are no longer what the schema allows.
    """
    layout = ExperimentLayout(experiment)
    body = results.mapping(layout.evaluation, "report")
    params = composition.validate(body["settings"], place=str(layout.evaluation))
    own = {k: v for k, v in body["settings"].items() if k not in OTHER_SECTIONS}

    def scores(key: str, run: str) -> tuple[Score, ...]:
        rows = (row for row in body.get(key, ()) if row["run"] == run)
        return tuple(Score.model_validate(row) for row in rows)

    runs = [
        RunResult(
            name=f"{run}@{experiment}",
            settings=settings,
            layout=layout.run(run),
            scores=scores("scores", run),
            validation=scores("validation", run),
            baselines=scores("baselines", run),
            skipped=(),
            details=(),
            pretrained={},
            results={},
            right=results.right_answers(layout.run(run).predictions),
            metrics=(),
            speed=(),
        )
        for run, settings in params.runs.items()
    ]
    return Scored(params, dict(_flat(own)), tuple(runs))


def tables(experiments: Sequence[Scored]) -> list[ShownTable]:
    """Return a table per label and split over the runs of all experiments.

    Columns are what varied in those that are sweeps, and what differs between the experiments.
    Runs of equal settings but for their seed share a row, also from one experiment to another.
    """
    differing = _differing(experiments)
    alike: dict[str, list[RunResult]] = {}
    for experiment in experiments:
        key = json.dumps([str(experiment.settings.get(name)) for name in differing])
        known = alike.setdefault(key, [])
        known += [run for run in experiment.runs if not any(_is_same(run, k) for k in known)]
    groups: list[Group] = [group for runs in alike.values() for group in seed_groups(runs)]
    first = experiments[0].params
    shown = Results(
        params=first.model_copy(update={"sweep": _sweep(experiments, differing)}),
        layout=ExperimentLayout(first.name),
        data=DataLayout(first.data.name),
        index=DatasetIndex(DataLayout(first.data.name).shards, first.data.name, "", (), {}, {}, ()),
        runs=tuple(run for group in groups for run in group.runs),
    )
    return of_scores(shown, groups)


def _differing(experiments: Sequence[Scored]) -> list[str]:
    """The keys of data and evaluation that are not equal in all experiments."""
    keys = dict.fromkeys(key for each in experiments for key in each.settings)
    return [
        key
        for key in keys
        if any(e.settings.get(key) != experiments[0].settings.get(key) for e in experiments)
    ]


def _is_same(run: RunResult, other: RunResult) -> bool:
    """Whether it is the same encoder, such as the untrained one of two experiments."""
    return (run.settings, run.scores) == (other.settings, other.scores)


def _sweep(experiments: Sequence[Scored], differing: Sequence[str]) -> Sweep | None:
    """What varies over all experiments, in the form of one sweep."""
    keys = {key.rpartition(".")[2]: key for key in differing}
    trials: dict[str, Trial] = {}
    for each in experiments:
        sweep, values = each.params.sweep, {n: str(each.settings.get(k)) for n, k in keys.items()}
        for run in each.runs:
            trial = sweep.trials.get(run.layout.run) if sweep else None
            own = {**trial.values, **values} if trial else values
            trials[run.name] = Trial(run=run.layout.run, values=own)
    for each in experiments:
        keys |= each.params.sweep.keys if each.params.sweep else {}
    if not keys:
        return None
    return Sweep.model_construct(keys=keys, overrides=(), trials=trials)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat


def names(folders: Sequence[str]) -> list[str]:
    """Return the experiments of folders such as results/demo; `UserError` for one given twice."""
    experiments = [folder.rstrip("/").rpartition("/")[2] for folder in folders]
    if len(set(experiments)) < len(experiments):
        raise UserError("an experiment is named twice", place=" ".join(folders))
    return experiments
