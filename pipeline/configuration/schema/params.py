"""All of `params.yaml`, and what must hold across its sections."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from pipeline.configuration import folding
from pipeline.configuration.schema.data import Clip, Data
from pipeline.configuration.schema.further import EvaluationData
from pipeline.configuration.schema.method import Model, Objective
from pipeline.configuration.schema.run import Run
from pipeline.configuration.schema.sweep import Sweep
from pipeline.configuration.schema.training import Trainer
from pipeline.configuration.section import Name, RunName, Section
from pipeline.evaluation.recognition.settings import Evaluation
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.segmentation.settings import Segmentation
from pipeline.evaluation.severe.settings import Severe


class Params(Section):
    """The resolved configuration: all of `params.yaml`.

    `model`, `objective` and `trainer` at the top level are what runs copy by interpolation;
    stages read `runs` only.
    """

    name: Name  # of the experiment: its results go to `results/NAME`
    data: Data
    model: Model  # default: a run reads it only where its experiment says so (`${model}`)
    objective: Objective  # default, likewise
    trainer: Trainer  # default, likewise
    evaluation: Evaluation
    segmentation: Segmentation
    severe: Severe
    # settings of further benchmarks, those that plugins bring among them, by their names
    benchmarks: dict[Name, Any] = Field(default_factory=dict)
    # modules to import before anything else, found from the project's folder: what they register
    # (benchmarks, masks, targets, losses) can be named here (docs/extending.md)
    plugins: tuple[str, ...] = ()
    # further data sets that all runs are evaluated on, by their names (without `.`)
    evaluation_data: dict[RunName, EvaluationData] = Field(default_factory=dict)
    # what is pretrained and compared: name (without `.`) to settings
    runs: dict[RunName, Run] = Field(min_length=1)
    # which runs are trials, and what varies (`python -m pipeline sweep`, docs/sweeps.md)
    sweep: Sweep | None = None
    _left_out: dict[str, tuple[str, ...]] = PrivateAttr(default_factory=dict)

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_are_registered(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = {n: each for n, each in BENCHMARKS.items() if each.section not in cls.model_fields}
        for name in values:
            if name not in known:
                raise ValueError(
                    f"no benchmark {name!r} is registered; known are {', '.join(known) or 'none'}"
                )
        return {name: known[name].settings.model_validate(value) for name, value in values.items()}

    @model_validator(mode="after")
    def _benchmarks_fit(self) -> Params:
        """Leave out what needs clips that there are not: no job is made for it."""
        update: dict[str, Any] = {}
        further = dict(self.benchmarks)
        for benchmark in BENCHMARKS.values():
            settings = benchmark.of(self)
            if settings is None:
                continue
            unknown = set(getattr(settings, "runs", None) or ()) - self.runs.keys()
            if unknown:
                raise ValueError(
                    f"{benchmark.section}.runs names {', '.join(sorted(unknown))}, which is no run"
                )
            benchmark.check(self)
            if (fitting := benchmark.fitting(self)) != settings:
                if benchmark.name in further:
                    further[benchmark.name] = fitting
                    update["benchmarks"] = further
                else:
                    update[benchmark.section] = fitting
                if gone := benchmark.left_out(settings, fitting):
                    self._left_out[benchmark.name] = tuple(gone)
        return self.model_copy(update=update) if update else self

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> Params:
        for key, names in (("runs", tuple(self.runs)), ("evaluation_data", self.data_sets)):
            if pair := folding.alike(names):
                raise ValueError(f"{key}: {pair[0]} and {pair[1]} {folding.REASON}")
        return self

    @model_validator(mode="after")
    def _trials_are_scored_on_val(self) -> Params:
        if self.sweep is None:
            return self
        if unknown := self.sweep.trials.keys() - self.runs.keys():
            raise ValueError(f"sweep.trials names {', '.join(sorted(unknown))}, which is no run")
        others = [n for n, each in BENCHMARKS.items() if n != "evaluation" and each.runs(self)]
        if self.evaluation.test or others:
            keys = ["evaluation.test", *others] if self.evaluation.test else others
            raise ValueError(
                f"trials of a sweep are scored on val alone: switch off {', '.join(keys)} "
                "(python -m pipeline choose scores the chosen ones on test)"
            )
        return self

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """What benchmarks, by their names, are asked for and cannot be run on."""
        return dict(self._left_out)

    @property
    def left_out_for(self) -> str:
        """What is missing that benchmarks' left out parts need."""
        if self.data.synthetic is not None:
            return "the test split"
        return "the embedded data" + ("" if self.evaluation.test else " or the test split")

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The names of the data sets that runs are evaluated on: that of the experiment first."""
        return (self.data.name, *self.evaluation_data)

    def on(self, data: str) -> Params:
        """Return the settings as they are where runs are evaluated on this one of the data sets.

        Those of the further ones are as if it were the only one: `data` is this one, and benchmarks
        that need more than labelled clips have nothing to do.
        """
        if data == self.data.name:
            return self
        further = self.evaluation_data[data]
        update: dict[str, Any] = {
            "data": further.plain,
            "evaluation": further.evaluated(self.evaluation, self.data),
            "evaluation_data": {},
            "benchmarks": {},
        }
        for name, benchmark in BENCHMARKS.items():
            settings = benchmark.of(self)
            if name == "evaluation" or settings is None:
                continue
            if name in self.benchmarks and benchmark.on_further_data:
                values = settings.model_dump() | further.benchmarks.get(name, {})
                update["benchmarks"][name] = benchmark.settings.model_validate(values)
            elif name not in self.benchmarks:
                update[benchmark.section] = settings.model_copy(update={"runs": ()})
        plain = self.model_copy(update=update)
        plain._left_out = {}  # it is told of the experiment's own
        return plain

    def clip_of(self, run: str) -> Clip:
        """Return the clips that a run's encoder takes."""
        own = self.runs[run].clip if run in self.runs else None
        update = own.model_dump(exclude_none=True) if own else {}
        return self.data.clip.model_copy(update=update)

    def of(self, run: str) -> Params:
        """Return the settings as they are in the jobs of a run: `data.clip` is what it takes."""
        clip = self.clip_of(run)
        if clip == self.data.clip:
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"clip": clip})})

    @model_validator(mode="after")
    def _evaluation_data_fit(self) -> Params:
        for name, further in self.evaluation_data.items():
            if further.name != name:
                raise ValueError(
                    f"evaluation_data.{name}.name is {further.name!r}: give it the name of its key"
                )
            if name == self.data.name:
                raise ValueError(
                    f"evaluation_data.{name}: all runs are evaluated on it already: it is `data`"
                )
            allowed = {n for n in self.benchmarks if BENCHMARKS[n].on_further_data}
            if unknown := sorted(further.benchmarks.keys() - allowed):
                raise ValueError(
                    f"evaluation_data.{name}.benchmarks names {', '.join(unknown)}; benchmarks "
                    f"that further data sets are scored by are {', '.join(sorted(allowed))}"
                )
            if "runs" in {key for each in further.benchmarks.values() for key in each}:
                raise ValueError(
                    f"evaluation_data.{name}.benchmarks: the same runs are scored on all data sets"
                )
            try:
                on_it = self.on(name)
                on_it.check_data()
                for benchmark in BENCHMARKS.values():
                    if benchmark.on_further_data and benchmark.of(on_it) is not None:
                        benchmark.check(on_it)
            except ValueError as error:
                raise ValueError(f"evaluation_data.{name}: {error}") from None
            self._has_the_geometry(name, further)
        return self

    def _has_the_geometry(self, name: str, further: EvaluationData) -> None:
        """Refuse clips of other sizes: encoders take those that they were trained on."""
        ours, theirs = ((c.frames, c.size) for c in (self.data.clip, further.clip))
        if ours != theirs:
            raise ValueError(
                f"evaluation_data.{name}.clip has {theirs[0]} frames of {theirs[1]} pixels, "
                f"data.clip {ours[0]} of {ours[1]}: encoders take clips of the size that they were "
                "trained on (stride, sampling and scales may differ)"
            )

    @model_validator(mode="after")
    def _vectors_are_there(self) -> Params:
        for name, run in self.runs.items():
            if run.objective.mask.needs_vectors and not self.data.shards.motion_vectors:
                raise ValueError(
                    f"runs.{name}.objective.mask follows the codec's motion vectors: set "
                    "data.shards.motion_vectors: true, or the mask's source: gradient"
                )
        return self

    @model_validator(mode="after")
    def _needed_runs_come_first(self) -> Params:
        for name, run in self.runs.items():
            for other in run.needs:
                if other not in self.runs:
                    key = "init" if other == run.init_run else "objective.target"
                    raise ValueError(
                        f"runs.{name}.{key} names {other}, which is no run; runs are "
                        f"{', '.join(self.runs)} (a file of weights has a `/` or a `.`)"
                    )
            if circle := self._circle((name,)):
                key = "init" if circle[1] == run.init_run else "objective.target"
                raise ValueError(
                    f"runs.{name}.{key}: {' needs '.join(circle)}: none can be trained first"
                )
        return self

    @model_validator(mode="after")
    def _teachers_see_the_same(self) -> Params:
        for name, run in self.runs.items():
            for other in run.needs:
                theirs, ours = self.runs[other].model.background, run.model.background
                if theirs != ours:
                    raise ValueError(
                        f"runs.{name}.model.background is {ours!r}, that of {other}, which it "
                        f"learns from, {theirs!r}: both see the same clips"
                    )
        return self

    def _circle(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The first way by which the first run of a path needs itself; empty: there is none."""
        for other in self.runs[path[-1]].needs:
            if other == path[0]:
                return (*path, other)
            if other in self.runs and other not in path and (found := self._circle((*path, other))):
                return found
        return ()

    def needed(self, run: str) -> list[str]:
        """All runs that are trained before a run, each after those that it needs itself."""
        before: list[str] = []
        for other in self.runs[run].needs if run in self.runs else ():
            before += [each for each in (*self.needed(other), other) if each not in before]
        return before

    @model_validator(mode="after")
    def _data_fit(self) -> Params:
        self.check_data()
        return self

    def check_data(self) -> None:
        """Raise ValueError where labels or encoders do not go with the data set."""
        self._check_labels()
        self._check_tubes()
        self._check_dropped_tubes()

    def _check_labels(self) -> None:
        tuned = self.evaluation.finetune and self.evaluation.finetune.labels
        unknown = [label for label in tuned or () if label not in self.data.labels]
        if unknown:
            raise ValueError(
                f"evaluation.finetune.labels names {', '.join(unknown)}, which data.labels "
                f"({', '.join(self.data.labels) or 'none'}) lacks: nothing would be fine-tuned on "
                "it; null follows data.labels"
            )

    def _check_dropped_tubes(self) -> None:
        tuned = self.evaluation.finetune
        for_all = {
            "evaluation.drop_tubes": self.evaluation.drop_tubes,
            "evaluation.finetune.drop_tubes": tuned and tuned.drop_tubes,
        }
        for name, run in self.runs.items():
            own = {f"runs.{name}.trainer.probe_drop_tubes": run.trainer.probe_drop_tubes}
            clip, (frames, height, width) = self.clip_of(name), run.model.tube
            count = clip.frames // frames * (clip.size // height) * (clip.size // width)
            for key, share in (for_all | own).items():
                if not share:
                    continue
                if run.model.network or clip.frames < 2 * frames or not int(count * (1 - share)):
                    raise ValueError(
                        f"{key} keeps the tubes that change most: runs.{name} has no two tubes in "
                        "time, keeps none, or is no video transformer"
                    )

    def _check_tubes(self) -> None:
        for name, run in self.runs.items():
            clip, key = self.clip_of(name), f"runs.{name}.clip" if run.clip else "data.clip"
            frames, height, width = run.model.tube
            if clip.frames % frames or clip.size % height or clip.size % width:
                raise ValueError(
                    f"runs.{name}.model.tube {frames}x{height}x{width} does not divide the clip "
                    f"of {clip.frames} frames at {clip.size}x{clip.size} ({key})"
                )
