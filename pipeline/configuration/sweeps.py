"""A sweep: one experiment whose runs are trials, and then the experiment of those that are chosen.

    objective.loss.epsilon=0.005,0.01   a key of runs: each value with each of the others
    runs=[sigma_mlp,pixel]              which runs are varied; without it all that are trained
    runs.pixel.trainer.epochs=4,8       a key of one run alone

The values are written as Hydra's multirun takes them (`a,b`, `range(1,4)`, `choice(a,b)`).
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.configuration import composition, old_names
from pipeline.configuration.schema import Params, Sweep, Trial
from pipeline.configuration.schema.sweep import Value
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class SweptKey:
    """A key with several values: as it was given, as Hydra writes each, and each as it is shown."""

    key: str
    written: Sequence[str]
    values: Sequence[Value]

    @property
    def run(self) -> str:
        """The run that it is of; empty where it is of all."""
        match = re.search(r"(?:^|@)runs\.([\w-]+)\.", self.key)
        return match[1] if match else ""

    @property
    def of_run(self) -> str:
        """The key below its run."""
        return re.sub(r"^(.*@)?runs\.[\w-]+\.", "", self.key)


@dataclass(frozen=True)
class Request:
    """The overrides of a sweep, taken apart."""

    place: str  # the command line, for errors
    fixed: list[str] = field(default_factory=list)
    swept: list[SweptKey] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)  # to vary; empty: all that are trained
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    @property
    def overrides(self) -> list[str]:
        """What all trials have in common."""
        return [*self.fixed, "evaluation.test=false"]

    def names(self) -> dict[str, str]:
        """Return a short name for each key: its last part, or more where two have the same."""
        keys = list(dict.fromkeys(each.of_run for each in self.swept))
        parts = {key: re.split(r"[./]", key) for key in keys}
        names = {}
        for key in keys:
            size = 1
            while size < len(parts[key]) and any(
                parts[other][-size:] == parts[key][-size:] for other in keys if other != key
            ):
                size += 1
            names[key] = "_".join(parts[key][-size:])
        return names


def compose(overrides: Sequence[str]) -> str:
    """Return the text of `params.yaml` for a sweep.

    Raises:
        UserError: as `composition.compose`; and for a key that is no setting of a run.
    """
    request = _request(overrides)
    config = composition.composed(request.overrides, request.place, known=request.composed)
    base = _params(config, request.place)
    names, configs, trials = request.names(), {}, {}
    runs = request.runs or [name for name, run in base.runs.items() if run.trainer.epochs]
    if unknown := [run for run in runs if run not in base.runs]:
        raise UserError(
            f"there is no run {unknown[0]!r}", place=request.place, remedy=", ".join(base.runs)
        )
    for run in runs:
        for name, trial, values in _trials(config, request, run, names):
            if name in trials:
                raise UserError(f"two trials are called {name}", place=request.place)
            trials[name], configs[name] = trial, values
    _put_runs(config, {**configs, **_kept(config, base, runs)})
    config.sweep = {
        "keys": {name: key for key, name in names.items()},
        "overrides": request.fixed,
        "trials": {name: trial.model_dump() for name, trial in trials.items()},
    }
    if not any(override.startswith("name=") for override in request.fixed):
        config.name = f"{base.name}_sweep"
    _score_by_probes_alone(config)
    return composition.finished(config, request.place)


def _request(overrides: Sequence[str]) -> Request:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    request = Request(" ".join(["sweep", *overrides]))
    parser = OverridesParser.create()
    for override in old_names.current(overrides):
        with composition.explained(request.place):
            parsed = parser.parse_override(override)
        key = parsed.get_key_element()
        if key == "runs" and not parsed.is_sweep_override():
            value = parsed.value()
            request.runs.extend(map(str, value if isinstance(value, list) else [value]))
        elif parsed.is_sweep_override():
            _check(key, request.place)
            values = [_shown(value) for value in parsed.sweep_iterator()]
            written = list(parsed.sweep_string_iterator())
            request.swept.append(SweptKey(key, written, values))
        else:
            request.fixed.append(override)
    if not request.swept:
        raise UserError(
            "nothing varies",
            place=request.place,
            remedy="give a key several values, such as trainer.seed=0,1,2",
        )
    return request


def _check(key: str, place: str) -> None:
    """Refuse a key that is not a setting of runs."""
    if re.split(r"[./]", key)[0] not in composition.DEFAULTS and not re.search(r"(^|@)runs\.", key):
        raise UserError(
            f"{key} is a setting of the whole experiment, not of a run",
            place=place,
            remedy="make an experiment for each value (compose ... name=NAME), then: "
            "python -m pipeline results results/NAME results/OTHER",
        )


def _shown(value: Any) -> Value:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _trials(
    config: DictConfig, request: Request, run: str, names: Mapping[str, str]
) -> Iterator[tuple[str, Trial, Any]]:
    """Yield the name of each trial of a run, what it is, and its settings."""
    from omegaconf import OmegaConf

    swept = [key for key in request.swept if key.run in ("", run)]
    targets = [_target(config, key, run) for key in swept]
    for places in itertools.product(*(range(len(key.values)) for key in swept)):
        values = {names[k.of_run]: k.values[n] for k, n in zip(swept, places, strict=True)}
        changed = [
            f"{target}={key.written[n]}"
            for target, key, n in zip(targets, swept, places, strict=True)
        ]
        composed = composition.composed(request.overrides, request.place, changed, request.composed)
        with composition.explained(request.place):
            settings = OmegaConf.to_container(composed.runs[run], resolve=True)
        yield _name(run, values), Trial(run=run, values=values), settings


def _target(config: DictConfig, swept: SweptKey, run: str) -> str:
    """Return the key that changes a run's setting.

    Where the run copies a whole section (`trainer: ${trainer}`), that is the key of the section.
    """
    from omegaconf import OmegaConf

    section = re.split(r"[./]", swept.of_run)[0]
    inherits = OmegaConf.is_interpolation(config.runs[run], section)
    if swept.run:
        if inherits:  # the section is another's, but no other run of this composition is kept
            return swept.of_run
        return swept.key
    if inherits:
        return swept.key
    if swept.key in composition.choices():
        return f"{swept.key}@runs.{run}.{swept.key.replace('/', '.')}"
    return f"runs.{run}.{swept.key}"


def _name(run: str, values: Mapping[str, Value]) -> str:
    """Return a trial's name, such as `sigma_mlp_epsilon-0p01_s2`."""
    parts = [
        f"s{value}" if name == "seed" else f"{name}-{_text(value)}"
        for name, value in values.items()
    ]
    return "_".join([run, *parts])


def _text(value: Value) -> str:
    if isinstance(value, float) and not isinstance(value, bool):
        value = f"{value:g}"
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(value).lower().replace(".", "p")).strip("-")


def _params(config: DictConfig, place: str) -> Params:
    from omegaconf import OmegaConf

    with composition.explained(place):
        values = OmegaConf.to_container(config, resolve=True)
    return composition.validate(values, place=place)


def _kept(config: DictConfig, base: Params, swept: Sequence[str]) -> dict[str, Any]:
    """Return the runs that stay as they are: those without training, and those that trials need."""
    from omegaconf import OmegaConf

    needed = {other for run in swept for other in base.needed(run)}
    return {
        name: OmegaConf.to_container(config.runs[name], resolve=True)
        for name, run in base.runs.items()
        if name in needed or (not run.trainer.epochs and name not in swept)
    }


def _put_runs(config: DictConfig, runs: Mapping[str, Any]) -> None:
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        OmegaConf.update(config, "runs", dict(runs), merge=False)


def _score_by_probes_alone(config: DictConfig) -> None:
    """Switch off the benchmarks beyond recognition: most are of test clips."""
    from omegaconf import OmegaConf

    for name, benchmark in BENCHMARKS.items():
        if name != "evaluation" and OmegaConf.select(config, benchmark.section) is not None:
            OmegaConf.update(config, f"{benchmark.section}.runs", [], force_add=True)


@dataclass(frozen=True)
class Choice:
    """The trials of a run that are best on val: several where seeds were varied."""

    run: str
    trials: tuple[str, ...]
    values: Mapping[str, Value]  # of what was chosen
    mean: float  # of the score, a share from 0 to 1
    tried: int  # trials of this run


def choose(sweep: Sweep, scores: Mapping[str, float]) -> list[Choice]:
    """Return the best trials of each run that was varied; of seeds their mean decides.

    Of equals it is the first. `scores` has that of each trial.
    """
    groups: dict[str, dict[tuple[tuple[str, Value], ...], list[str]]] = {}
    for name, trial in sweep.trials.items():
        values = tuple((k, v) for k, v in trial.values.items() if k not in sweep.seeds)
        groups.setdefault(trial.run, {}).setdefault(values, []).append(name)
    choices = []
    for run, by_values in groups.items():
        means = {
            values: statistics.fmean(scores[name] for name in names)
            for values, names in by_values.items()
        }
        best = max(means, key=lambda values: means[values])
        tried = sum(map(len, by_values.values()))
        names = tuple(by_values[best])
        choices.append(Choice(run, names, dict(best), means[best], tried))
    return choices


def compose_chosen(
    name: str, sweep: Sweep, runs: Mapping[str, Any], choices: Sequence[Choice]
) -> str:
    """Return the text of `params.yaml` for the chosen trials, which are scored on test.

    Args:
        name: of the sweep's experiment.
        sweep: what varied in it.
        runs: the settings of its runs, as they were scored.
        choices: of each run that was varied.
    """
    place = f"the choice of {name}"
    config = composition.composed([*sweep.overrides, "evaluation.test=true"], place)
    chosen = {}
    for choice in choices:
        for trial in choice.trials:
            seed = runs[trial]["trainer"]["seed"]
            run = choice.run if len(choice.trials) == 1 else f"{choice.run}_s{seed}"
            chosen[run] = runs[trial]
    kept = {run: runs[run] for run in runs if run not in sweep.trials}
    _put_runs(config, chosen | kept)
    config.name = f"{name}_chosen"
    return composition.finished(config, place)
