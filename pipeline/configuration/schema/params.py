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
    def _benchmarks_have_their_clips(self) -> Params:
        """Leave out what needs clips that there are not: no job is made for it.

        They are the clips and masks of the embedded data set where `data` is another one, and
        those of test splits under `evaluation.test=false`.
        """
        drawn = self.data.synthetic is not None and self.evaluation.test
        masks = tuple(m for m in self.segmentation.data if drawn or m.kind != "embedded")
        embedded = not drawn and any(task.clips.kind == "drawn" for task in self.severe.tasks)
        tasks = tuple(
            task
            for task in self.severe.tasks
            if not (embedded and task.clips.of_the_experiment)
            and (self.evaluation.test or "test" not in task.clips.splits)
        )
        update: dict[str, Section] = {}
        if masks != self.segmentation.data:
            update["segmentation"] = self.segmentation.model_copy(update={"data": masks})
        if tasks != self.severe.tasks:
            update["severe"] = self.severe.model_copy(update={"tasks": tasks})
        return self.model_copy(update=update) if update else self

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
