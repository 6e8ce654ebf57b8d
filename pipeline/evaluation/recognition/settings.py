"""`evaluation`: which probes score an encoder, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from pipeline.configuration.section import Name, OpenShare, Positive, Section
from pipeline.evaluation.settings import Finetune, Views

Neighbours = Annotated[int, Field(gt=0)]
# What a report calls the probes.
PROBE_NAMES = {
    "linear": "linear probe",
    "attentive": "attentive probe",
    "knn": "k-NN",
    "finetune": "fine-tuned",
}


def _several(value: Any) -> Any:
    """Take one value for a list of one."""
    if isinstance(value, list | tuple) and not value:
        raise ValueError("needs at least one value")
    return (value,) if isinstance(value, int | float | str) else value


class Training(Section):
    """How a head is trained on frozen features; `rates` are tried together, `val` chooses one."""

    solver: Literal["adamw", "sgd"]  # of gradient descent
    # per 256 clips of batch; trained together, chosen from on `val`
    rates: Annotated[tuple[Positive, ...], BeforeValidator(_several)]
    epochs: int = Field(gt=0)  # of training
    warmup_epochs: int = Field(ge=0)  # of linear warm-up; at most `epochs`
    batch_size: int = Field(gt=0)  # clips
    weight_decay: float = Field(ge=0)  # of the solver
    seed: int = 0  # of initialisation and order

    @model_validator(mode="after")
    def _adds_up(self) -> Training:
        if self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs are more than epochs")
        return self


class LinearProbe(Section):
    """Multinomial logistic regression on standardised features; C chosen on `val`."""

    solver: Literal["lbfgs"] = "lbfgs"
    # values of C, chosen from on `val`
    inverse_regularisation: tuple[Annotated[float, Field(gt=0)], ...]
    max_iterations: int = Field(gt=0)  # of the solver


class TrainedLinearProbe(Training):
    """A linear layer on mean-pooled features, trained by gradient descent."""

    batch_norm: bool  # of the features, without scale and shift, before the linear layer


class AttentiveProbe(Training):
    """A learned query that pools all tokens by cross-attention, and a linear layer on it."""

    heads: int = Field(gt=0)  # of the pooling block
    mlp_ratio: float = Field(gt=0)  # of the pooling block
    # all tokens are kept on disk (float16) up to this size; else computed for each epoch
    store_gib: float = Field(ge=0)


class NearestNeighbours(Section):
    """Weighted votes of the nearest train clips; the k of the table is chosen on `val`."""

    # neighbours, chosen from on `val`
    k: Annotated[tuple[Neighbours, ...], BeforeValidator(_several)]
    temperature: float = Field(gt=0)  # sharpness of their weights


class ImageSet(Section):
    """Images as still clips: each is repeated for all frames of a clip."""

    name: Name  # in the tables, in place of a label
    format: Literal["imagenet", "cifar100"]  # as it is published (docs/evaluation.md)
    folder: str  # train/CLASS/*, val/CLASS/*; or cifar-100-binary, as a folder or a .tar.gz


class Evaluation(Section):
    added_later = ("drop_tubes",)

    name: Name  # shown in the report
    views: Views  # of val and test clips for the probes
    train_views: Views = Views(segments=1, crops=1)  # of train clips for the probes
    # of a clip's tubes, those that change least: the encoder sees them, features that probes read
    # leave them out (docs/evaluation.md); null: none
    drop_tubes: OpenShare | None = None
    batch_size: int = Field(gt=0)  # clips at once, each view counted; changes no result
    # that compute features, each with `trainer.threads`; changes no result
    processes: int = Field(default=1, gt=0)
    # decoded views are kept on disk up to this size, in data/NAME/views, for the encoders that look
    # at them next; else each decodes them again. Changes no result
    views_gib: float = Field(default=4.0, ge=0)
    # score the test split; false leaves it alone (for trials), and val is scored
    test: bool = True
    # two rows to compare with, by a linear probe on grey pixels: the middle frame's, and frame
    # differences; of labelled data sets alone
    baselines: bool = True
    # a clip that can no longer be read ends the stage, or is named beside the score
    on_failure: Literal["stop", "report"] = "stop"
    # null leaves the probe out, here and below
    linear: Annotated[LinearProbe | TrainedLinearProbe, Field(discriminator="solver")] | None
    attentive: AttentiveProbe | None = None  # cross-attention pooling with a learned query
    knn: NearestNeighbours | None  # weighted nearest neighbours
    finetune: Finetune | None = None  # the whole encoder is trained
    images: tuple[ImageSet, ...] = ()  # image data sets as still clips

    @model_validator(mode="after")
    def _something_changes(self) -> Evaluation:
        if self.drop_tubes is not None and self.images:
            raise ValueError(
                "drop_tubes keeps the tubes that change most, and in images nothing changes: "
                "leave out images, or set drop_tubes to null"
            )
        return self
