"""Everything that the report tells, read from the files that the other stages wrote.

Nothing is computed again here: a number in the report is a number in one of these files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.configuration.layout import DataLayout, ExperimentLayout, RunLayout
from pipeline.configuration.schema import Params, Run
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report.comparison import wilson
from pipeline.runtime.files import read_mapping

Line = dict[str, Any]  # one line of a .jsonl file
TRAINED = ("attentive", "finetune")  # probes that train a network, which may come to nothing


class Score(BaseModel):
    """One row of a run's `evaluation.json`. `top1`, `top5`, `chance` are shares from 0 to 1."""

    model_config = ConfigDict(extra="allow", frozen=True)

    label: str
    probe: str
    split: str
    top1: float
    top5: float | None = None
    chance: float | None = None
    majority: float | None = None
    constant: str | None = None  # the answer, where it is the same one for every clip
    baseline: str = ""  # what is scored in place of an encoder: grey pixels
    classes: int
    train_clips: int
    scored: int
    of: int
    unlabelled_clips: int = 0  # of these, without this label: not asked about
    chosen: dict[str, Any] = Field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """False of trained layers that give one answer to every clip: their score is no result."""
        return self.constant is None or self.probe not in TRAINED

    @property
    def counts(self) -> str:
        """On how many clips of how many that were asked about, such as `790 of 800`."""
        return f"{self.scored:,} of {self.of - self.unlabelled_clips:,}"

    @property
    def shown_top5(self) -> float | None:
        """None where it says nothing: of five classes or fewer."""
        return self.top5 if self.classes > 5 else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval that comes from the number of clips."""
        return wilson(self.top1, self.scored)


class Skipped(BaseModel):
    """A probe that was not run, or clips that it left out (`clips` > 0), and why."""

    model_config = ConfigDict(extra="allow", frozen=True)

    label: str
    probe: str
    reason: str
    clips: int = 0


class Details(BaseModel):
    """What one probe answered, class by class."""

    model_config = ConfigDict(extra="allow", frozen=True)

    label: str
    probe: str
    split: str = "test"
    per_class: dict[str, dict[str, int]] = Field(default_factory=dict)  # class -> clips, right
    classes: list[str] = Field(default_factory=list)
    confusion: list[list[int]] = Field(default_factory=list)  # true class x predicted class


@dataclass(frozen=True)
class RunResult:
    """One run: its settings and what its stages left behind."""

    name: str
    settings: Run
    layout: RunLayout
    scores: tuple[Score, ...]
    validation: tuple[Score, ...]  # on val, where that is scored beside test
    skipped: tuple[Skipped, ...]
    details: tuple[Details, ...]
    pretrained: Mapping[str, Any]  # pretrain.json
    results: Mapping[str, Mapping[str, Any]]  # of each benchmark that scores it: NAME.json
    right: Mapping[tuple[str, str], Mapping[str, bool]]  # label, probe -> is it right, by clip
    metrics: tuple[Line, ...]
    speed: tuple[Line, ...]
    baselines: tuple[Score, ...] = ()  # of grey pixels in place of the encoder's features

    @property
    def evaluated(self) -> Mapping[str, Any]:
        """What recognition found: evaluation.json."""
        return self.results["evaluation"]

    @property
    def trained(self) -> bool:
        """False for the baseline, whose encoder is as it was initialised."""
        return self.settings.trainer.epochs > 0 or self.settings.weights is not None

    @property
    def epochs(self) -> int:
        """How often all clips were learned from: as asked, or more where the least steps ask it."""
        return max(self.settings.trainer.epochs, int(self.pretrained.get("epochs", 0)))

    @property
    def has_prototypes(self) -> bool:
        return self.settings.trainer.epochs > 0 and self.settings.objective.loss.prototypes > 0

    @property
    def description(self) -> str:
        """What the encoder learned from, in words."""
        if not self.trained:
            return "not trained: the baseline"
        if self.settings.weights is not None:
            origin = self.pretrained.get("weights") or {}
            clips = ", on other clips than it was trained on" if origin.get("other_clip") else ""
            return f"{origin.get('kind', 'weights')}: {self.settings.weights}{clips}"
        return f"{self._objective}{self._beginning}"

    @property
    def _beginning(self) -> str:
        init = self.settings.init
        return f", begun with the weights of {init}" if init else ""

    @property
    def _objective(self) -> str:
        objective = self.settings.objective
        target, mask = objective.target.description, objective.mask.kind
        masks = "" if mask == "tube" else f", {mask.replace('_', ' ')} masks"
        if objective.loss.kind == "sinkhorn":
            return f"SIGMA: cluster assignments from {target}{masks}"
        if objective.loss.kind == "cross_entropy":
            return f"classification into {target}{masks}"
        if objective.target.kind == "pixel":
            return f"{'' if masks else 'VideoMAE: '}regression of {target}{masks}"
        targets = " and of ".join(each.description for each in objective.all_targets)
        what = "alignment of visible tubes with" if objective.alignment else "regression of"
        return f"{what} the features of {targets}{masks}"

    @property
    def encoder(self) -> str:
        """The encoder's shape, in words."""
        model = self.settings.model
        blocks = f"{model.depth:,} block{'s' * (model.depth != 1)} of width {model.width}"
        return f"{blocks} on tubes of {'×'.join(map(str, model.tube))}"


@dataclass(frozen=True)
class Results:
    """An experiment with all its runs, in the order of the configuration."""

    params: Params
    layout: ExperimentLayout
    data: DataLayout
    index: DatasetIndex
    runs: tuple[RunResult, ...]
    further: tuple[Results, ...] = ()  # the same runs, on further data sets

    @property
    def trained(self) -> tuple[RunResult, ...]:
        return tuple(run for run in self.runs if run.trained)


def read(params: Params) -> Results:
    """Read the experiment of `params`.

    Raises:
        UserError: where a stage has not run yet, or its file is not what it should be.
    """
    further = tuple(_read(params.on(name), name) for name in params.evaluation_data)
    return replace(_read(params), further=further)


def _read(params: Params, further: str = "") -> Results:
    layout, data = ExperimentLayout(params.name), DataLayout(params.data.name)
    return Results(
        params=params,
        layout=layout,
        data=data,
        index=DatasetIndex.load(data.shards),
        runs=tuple(_read_run(params, layout.run(name, further)) for name in params.runs),
    )


def _read_run(params: Params, layout: RunLayout) -> RunResult:
    bodies = {
        name: mapping(layout.result(name), f"{benchmark.stage} {layout.options}")
        for name, benchmark in BENCHMARKS.items()
        if layout.run in benchmark.runs(params)
        and (name == "evaluation" or layout.result(name).is_file())
    }
    evaluated = bodies["evaluation"]
    pretrained = mapping(layout.pretrained, f"pretrain --run {layout.run}")
    try:
        return RunResult(
            name=layout.run,
            settings=params.runs[layout.run],
            layout=layout,
            scores=tuple(Score.model_validate(row) for row in evaluated["scores"]),
            validation=tuple(Score.model_validate(r) for r in evaluated.get("validation", ())),
            baselines=tuple(Score.model_validate(r) for r in evaluated.get("baselines", ())),
            skipped=tuple(Skipped.model_validate(row) for row in evaluated.get("skipped", ())),
            details=tuple(Details.model_validate(row) for row in evaluated.get("details", ())),
            pretrained=pretrained,
            results=bodies,
            right=right_answers(layout.predictions),
            metrics=_lines(layout.metrics),
            speed=_lines(layout.speed),
        )
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            f"the scores of run {layout.run!r} cannot be read: {error}",
            place=str(layout.result("evaluation")),
            remedy=f"delete the file, then: python -m pipeline evaluate {layout.options}",
        ) from None


def mapping(path: Path, command: str) -> Mapping[str, Any]:
    """Read a JSON file; a UserError names the command that makes it."""
    remedy = f"python -m pipeline {command}"
    if not path.is_file():
        problem = "the report lacks a result of an earlier stage"
        raise UserError(problem, place=str(path), remedy=remedy)
    return read_mapping(path, remedy)


def right_answers(path: Path) -> Mapping[tuple[str, str], Mapping[str, bool]]:
    """Read which answers are right; nothing where they are not here, or damaged.

    Then no run is compared with another, and the report says so.
    """
    answers_by_probe: dict[tuple[str, str], dict[str, bool]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                answers = answers_by_probe.setdefault((row["label"], row["probe"]), {})
                answers[row["id"]] = row["predicted_1"] == row["true"]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}
    return answers_by_probe


def _lines(path: Path) -> tuple[Line, ...]:
    """Read a .jsonl file; an untrained run has none."""
    if not path.is_file():
        return ()
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise UserError(
                f"line {number} is not valid JSON: {error}",
                place=str(path),
                remedy="delete the folder of this run, and run the chain again",
            ) from None
    return tuple(lines)
