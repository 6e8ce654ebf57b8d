"""`evaluation`: which benchmarks score an encoder, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.configuration.schema.section import (
    Name,
    Positive,
    PositiveInterval,
    Section,
    Share,
)

Neighbours = Annotated[int, Field(gt=0)]


def _several(value: Any) -> Any:
    """Take one value for a list of one."""
    if isinstance(value, list | tuple) and not value:
        raise ValueError("needs at least one value")
    return (value,) if isinstance(value, int | float | str) else value


class Views(Section):
    """Which clips of a video are looked at: `segments` x `crops` of them, always the same ones."""

    segments: int = Field(gt=0)  # clips spread evenly over the video
    crops: int = Field(gt=0)  # 1: centre; 3: along the long side
    sampling: Literal["dense", "per_segment"] = "dense"  # consecutive frames; one of each segment


ONE_VIEW = Views(segments=1, crops=1)


class Training(Section):
    """How a head is trained on frozen features; `rates` are tried together, `val` chooses one."""

    solver: Literal["adamw", "sgd"]
    rates: Annotated[tuple[Positive, ...], BeforeValidator(_several)]
    epochs: int = Field(gt=0)
    warmup_epochs: int = Field(ge=0)
    batch_size: int = Field(gt=0)  # clips; the rates are per 256 of them
    weight_decay: float = Field(ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _adds_up(self) -> Training:
        if self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs are more than epochs")
        return self


class LinearProbe(Section):
    """Multinomial logistic regression on standardised features; C chosen on `val`."""

    solver: Literal["lbfgs"] = "lbfgs"
    inverse_regularisation: tuple[Annotated[float, Field(gt=0)], ...]
    max_iterations: int = Field(gt=0)


class TrainedLinearProbe(Training):
    """A linear layer on mean-pooled features, trained by gradient descent."""

    batch_norm: bool  # of the features, without scale and shift, before the linear layer


class AttentiveProbe(Training):
    """A learned query that pools all tokens by cross-attention, and a linear layer on it."""

    heads: int = Field(gt=0)
    mlp_ratio: float = Field(gt=0)
    store_gib: float = Field(ge=0)  # tokens up to this size are kept on disk; else computed anew


class NearestNeighbours(Section):
    """Weighted votes of the nearest train clips; the k of the table is chosen on `val`."""

    k: Annotated[tuple[Neighbours, ...], BeforeValidator(_several)]
    temperature: float = Field(gt=0)


class RandAugment(Section):
    """timm's RandAugment (Cubuk et al. 2020), the same for all frames of a clip."""

    operations: int = Field(gt=0)
    magnitude: int = Field(ge=0, le=10)
    deviation: float = Field(ge=0)  # of the magnitude


class Augmentation(Section):
    """What fine-tuning does to train clips and their targets; 0 and null switch a part off."""

    area: PositiveInterval  # of the random crop, as a share of the frame
    aspect: PositiveInterval  # its width by its height
    flip: bool  # mirror at random; off where left and right are labels
    repeated: int = Field(gt=0)  # times that a clip occurs in a batch, each time augmented anew
    randaugment: RandAugment | None
    erasing: Share  # probability that a rectangle of a clip is filled with noise
    mixup: float = Field(ge=0)  # parameter of the beta distribution
    cutmix: float = Field(ge=0)
    mix_probability: Share  # that a batch is mixed at all
    switch_probability: Share  # that it is CutMix where both are on
    label_smoothing: float = Field(ge=0, lt=1)


class Finetune(Section):
    """Training of the whole encoder with a new head (protocol of VideoMAE, appendix)."""

    labels: tuple[str, ...] | None = None  # of data.labels; null: all of them
    epochs: int = Field(gt=0)
    warmup_epochs: int = Field(ge=0)
    batch_size: int = Field(gt=0)  # clips per step, repetitions counted
    accumulation: int = Field(gt=0)
    solver: Literal["adamw", "sgd"]
    base_lr: float = Field(gt=0)  # per 256 clips of a batch, as final_lr and warmup_lr
    final_lr: float = Field(ge=0)
    warmup_lr: float = Field(ge=0)
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0)
    clip_grad: float | None = Field(default=None, gt=0)
    frozen: bool  # only the head learns: the paper's linear probe, on augmented clips
    batch_norm: bool  # before the linear layer, without scale and shift, in place of LayerNorm
    layer_decay: float = Field(gt=0, le=1)
    drop_path: Share
    head_scale: float = Field(gt=0)  # of the head's initial weights
    ema: float | None = Field(gt=0, lt=1)  # decay of the averaged weights, which are then scored
    augmentation: Augmentation
    sampling: Literal["dense", "per_segment"]
    views: Views  # of val and test clips; their probabilities are averaged
    precision: Literal["fp32", "bf16"]
    seed: int
    checkpoint_every: int = Field(gt=0)  # steps

    @model_validator(mode="after")
    def _adds_up(self) -> Finetune:
        if self.warmup_epochs > self.epochs:
            raise ValueError("warmup_epochs are more than epochs")
        if self.batch_size % (self.accumulation * self.augmentation.repeated):
            raise ValueError("batch_size must be a multiple of accumulation x repeated")
        mixes = self.augmentation.mixup or self.augmentation.cutmix
        if mixes and self.batch_size // self.accumulation % 2:
            raise ValueError("mixup and cutmix need an even number of clips in each part")
        return self


class ImageSet(Section):
    """Images as still clips: each is repeated for all frames of a clip."""

    name: Name  # in the tables, in place of a label
    format: Literal["imagenet", "cifar100"]
    folder: str  # train/CLASS/*, val/CLASS/*; or cifar-100-binary, as a folder or a .tar.gz


class Evaluation(Section):
    name: Name
    views: Views  # of val and test clips for the probes
    train_views: Views = ONE_VIEW  # of train clips for the probes
    batch_size: int = Field(gt=0)  # clips, each view counted
    processes: int = Field(default=1, gt=0)  # that compute features; each takes trainer.threads
    on_failure: Literal["stop", "report"] = "stop"  # of a clip that can no longer be decoded
    linear: Annotated[LinearProbe | TrainedLinearProbe, Field(discriminator="solver")] | None
    attentive: AttentiveProbe | None = None
    knn: NearestNeighbours | None
    finetune: Finetune | None = None
    images: tuple[ImageSet, ...] = ()
