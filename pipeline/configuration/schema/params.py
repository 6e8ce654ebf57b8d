"""All of `params.yaml`, and what must hold across its sections."""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from pipeline.configuration.schema.data import Data
from pipeline.configuration.schema.method import Model, Objective
from pipeline.configuration.schema.training import Trainer
from pipeline.configuration.section import Name, RunName, Section
from pipeline.evaluation.recognition.settings import Evaluation
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.evaluation.segmentation.settings import Segmentation
from pipeline.evaluation.severe.settings import Severe


class Run(Section):
    """One pretrained (or untrained) encoder of the experiment."""

    model: Model
    objective: Objective
    trainer: Trainer
    # an encoder that somebody has trained, in place of pretraining (docs/evaluation.md); with
    # 0 epochs alone
    weights: str | None = None
    weights_sha256: str | None = None  # of that file; checked where given
    # give the weights other clips (data.clip, data.decode.fps) than those that they say they
    # were trained on; the report says so
    allow_other_clip: bool = False
    # what training begins with in place of fresh weights: the encoder of another run of this
    # experiment, by its name, which is then trained first; or of a file (a `/` or `.` tells it)
    init: str | None = None
    # take the decoder from there, too, but for its last map, which is the target's
    init_decoder: bool = False

    @property
    def init_run(self) -> str | None:
        """The run of this experiment that training begins with."""
        return None if self.init is None or self.init_file else self.init

    @property
    def init_file(self) -> str | None:
        """The file of weights that training begins with."""
        return self.init if self.init and any(mark in self.init for mark in "/.") else None

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs that are trained before this one: what it begins with, or its targets are of."""
        of_targets = self.objective.needs if self.trainer.epochs else ()
        return tuple(dict.fromkeys([*([self.init_run] if self.init_run else []), *of_targets]))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not made use of: runs that do not begin with others stay the same."""
        values: dict[str, Any] = handler(self)
        if self.init is None:
            values = {k: v for k, v in values.items() if k not in ("init", "init_decoder")}
        return values

    @model_validator(mode="after")
    def _init_is_trained(self) -> Run:
        if self.init is None and self.init_decoder:
            raise ValueError("init_decoder needs init, which says whose decoder it is")
        if self.init is not None and not self.trainer.epochs:
            raise ValueError(
                "init is what a training begins with: set trainer.epochs above 0 (or, of a file, "
                "give weights in its place)"
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_aligned(self) -> Run:
        alignment, layers = self.objective.alignment, getattr(self.objective.target, "layers", ())
        if alignment is None:
            return self
        if self.model.depth <= int((len(layers) - 1) * alignment.interval):
            raise ValueError(
                f"alignment of {len(layers)} layers, {alignment.interval:g} apart, needs more than "
                f"the {self.model.depth} blocks of the encoder (model.depth)"
            )
        if self.model.positions == "learned":
            raise ValueError("alignment adds fixed positions: model.positions cannot be 'learned'")
        return self

    @model_validator(mode="after")
    def _weights_are_not_trained(self) -> Run:
        if self.weights is not None and self.trainer.epochs:
            raise ValueError(
                "weights are taken as they are: set trainer.epochs of the run to 0, or give them "
                "as init, to train on from them"
            )
        if self.weights is None and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 needs weights")
        return self


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
    # what is pretrained and compared: name (without `.`) to settings
    runs: dict[RunName, Run] = Field(min_length=1)

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
        update = {}
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
                update[benchmark.section] = fitting
        return self.model_copy(update=update) if update else self

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
    def _labels_are_of_the_data(self) -> Params:
        tuned = self.evaluation.finetune and self.evaluation.finetune.labels
        unknown = [label for label in tuned or () if label not in self.data.labels]
        if unknown:
            raise ValueError(
                f"evaluation.finetune.labels names {', '.join(unknown)}, which data.labels "
                f"({', '.join(self.data.labels) or 'none'}) lacks: nothing would be fine-tuned on "
                "it; null follows data.labels"
            )
        return self

    @model_validator(mode="after")
    def _tubes_divide_the_clip(self) -> Params:
        clip = self.data.clip
        for name, run in self.runs.items():
            frames, height, width = run.model.tube
            if clip.frames % frames or clip.size % height or clip.size % width:
                raise ValueError(
                    f"runs.{name}.model.tube {frames}x{height}x{width} does not divide the clip "
                    f"of {clip.frames} frames at {clip.size}x{clip.size} (data.clip)"
                )
        return self
