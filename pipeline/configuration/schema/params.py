"""All of `params.yaml`, and what must hold across its sections."""

from __future__ import annotations

from pydantic import Field, model_validator

from pipeline.configuration.schema.benchmarks import Segmentation, Severe
from pipeline.configuration.schema.data import Data
from pipeline.configuration.schema.evaluation import Evaluation
from pipeline.configuration.schema.method import Model, Objective
from pipeline.configuration.schema.section import Name, RunName, Section
from pipeline.configuration.schema.training import Trainer


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

    @model_validator(mode="after")
    def _weights_are_not_trained(self) -> Run:
        if self.weights is not None and self.trainer.epochs:
            raise ValueError("weights are taken as they are: set trainer.epochs of the run to 0")
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
    # what is pretrained and compared: name (without `.`) to settings
    runs: dict[RunName, Run] = Field(min_length=1)

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

    @model_validator(mode="after")
    def _tubes_divide_segmented_clips(self) -> Params:
        for length in self.segmentation.frames:
            for name, run in self.runs.items():
                if length % run.model.tube[0]:
                    raise ValueError(
                        f"runs.{name}.model.tube of {run.model.tube[0]} frames does not divide a "
                        f"clip of {length} (segmentation.frames)"
                    )
        return self
