"""`severe`: the tasks of Benchmark III, and how they are learned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.configuration.section import Name, Positive, Section
from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.settings import Finetune

Column = Literal["ssv2", "gym99", "ucf_1000", "gym99_1000", "fx_s1", "ub_s1", "ucf_rc", "charades"]


class DrawnClips(Section):
    """A small data set drawn for one task (`pipeline.data.synthetic.tasks`)."""

    kind: Literal["drawn"]
    # what is unlike the embedded data set (docs/severe.md)
    variant: Literal["backgrounds", "objects", "speeds", "directions", "counts", "several"]

    @property
    def of_the_experiment(self) -> bool:
        """Whether the clips are the experiment's own, or drawn like them."""
        return True

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are scored."""
        return ("test",)


class StoredClips(Section):
    """A data set that the pipeline has made shards of: `data/NAME/shards`."""

    kind: Literal["stored"]
    data: Name | None  # null: that of the experiment
    label: str  # a column of its list
    train: tuple[str, ...] = ("train",)  # splits to learn from
    test: tuple[str, ...] = ("test",)  # splits to score
    separator: str = ";"  # between the labels of one clip, where it has several

    @property
    def of_the_experiment(self) -> bool:
        """Whether the clips are the experiment's own, or drawn like them."""
        return self.data is None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are scored."""
        return self.test


class SevereTask(Section):
    """One task: a column of the table."""

    name: Name  # shown in the report
    column: Column  # of the paper's table, or the one whose place it takes on the embedded data
    clips: Annotated[DrawnClips | StoredClips, Field(discriminator="kind")]  # where they are from
    answer: Literal["class", "classes", "count"]  # what is asked of a clip
    # `class` goes with `top1` or `per_class`, `classes` with `average_precision`, `count`
    # with `relative_error`
    metric: Literal["top1", "per_class", "average_precision", "relative_error"]
    # labelled train clips, drawn by hash; null: all
    samples: int | None = Field(default=None, gt=0)
    sampling: Literal["dense", "per_segment"] = "dense"  # frames of a clip

    @model_validator(mode="after")
    def _fits(self) -> SevereTask:
        fitting = {
            "class": ("top1", "per_class"),
            "classes": ("average_precision",),
            "count": ("relative_error",),
        }
        if self.metric not in fitting[self.answer]:
            raise ValueError(
                f"answer {self.answer!r} is scored by {' or '.join(fitting[self.answer])}, not by "
                f"{self.metric!r}"
            )
        return self


class DrawnSize(Section):
    """Clips of each data set that is drawn."""

    train: int = Field(gt=0)  # clips to learn from
    test: int = Field(gt=0)  # clips to score


class FrozenHeads(Section):
    """Heads on frozen, mean-pooled features; strengths are chosen on held-out train clips."""

    kind: Literal["frozen"]
    # values of C of logistic regression
    inverse_regularisation: tuple[Positive, ...] = Field(min_length=1)
    max_iterations: int = Field(gt=0)  # of its solver
    ridge: tuple[Positive, ...] = Field(min_length=1)  # strengths of the regression of counts
    batch_size: int = Field(gt=0)  # clips at once; changes no result


class FinetunedEncoder(Finetune):
    """The whole encoder learns each task, as in the benchmark."""

    kind: Literal["finetune"]


class Severe(BenchmarkSettings):
    """Benchmark III: how an encoder does away from the data and the task it is used to."""

    name: Name  # shown in the report
    tasks: tuple[SevereTask, ...]  # one per column of the table; may be empty
    drawn: DrawnSize  # size of each data set that is drawn
    # how each task is learned
    method: Annotated[FrozenHeads | FinetunedEncoder, Field(discriminator="kind")]

    @property
    def other_data(self) -> tuple[str, ...]:
        """The data sets beside the experiment's own that tasks are taken from."""
        stored = (task.clips for task in self.tasks if isinstance(task.clips, StoredClips))
        return tuple(dict.fromkeys(clips.data for clips in stored if clips.data is not None))

    @model_validator(mode="after")
    def _one_task_a_column(self) -> Severe:
        for names in ([task.name for task in self.tasks], [task.column for task in self.tasks]):
            if len(set(names)) < len(names):
                raise ValueError(f"two tasks of one name or column: {', '.join(names)}")
        return self
