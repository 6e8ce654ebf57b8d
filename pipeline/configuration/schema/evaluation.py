"""`evaluation`: which benchmarks score an encoder, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.configuration.schema.section import Name, Positive, PositiveInterval, Section, Share

Neighbours = Annotated[int, Field(gt=0)]


def _several(value: Any) -> Any:
    """Take one value for a list of one."""
    if isinstance(value, list | tuple) and not value:
        raise ValueError("needs at least one value")
    return (value,) if isinstance(value, int | float | str) else value


class Views(Section):
    """Which clips of a video are looked at: `segments` x `crops` of them, always the same ones."""

    # clips spread evenly over the video; probabilities are averaged (k-NN: features)
    segments: int = Field(gt=0)
    crops: int = Field(gt=0)  # 1: the centre; 3: along the long side
    # consecutive frames, `data.clip.stride` apart; one frame of each of as many equal
    # segments
    sampling: Literal["dense", "per_segment"] = "dense"


ONE_VIEW = Views(segments=1, crops=1)


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


class RandAugment(Section):
    """timm's RandAugment (Cubuk et al. 2020), the same for all frames of a clip."""

    operations: int = Field(gt=0)  # of them, one after the other
    magnitude: int = Field(ge=0, le=10)  # of each operation
    deviation: float = Field(ge=0)  # of the magnitude


class Augmentation(Section):
    """What fine-tuning does to train clips and their targets; 0 and null switch a part off."""

    area: PositiveInterval  # of the random crop, as a share of the frame
    aspect: PositiveInterval  # its width by its height
    flip: bool  # mirror at random; follows `data.clip.flip`
    repeated: int = Field(gt=0)  # times that a clip occurs in a batch, each time augmented anew
    randaugment: RandAugment | None  # timm's RandAugment; null: none
    erasing: Share  # probability that a rectangle of a clip is filled with noise
    mixup: float = Field(ge=0)  # parameter of its beta distribution
    cutmix: float = Field(ge=0)  # parameter of its beta distribution
    mix_probability: Share  # that a batch is mixed at all
    switch_probability: Share  # that it is CutMix where both are on
    label_smoothing: float = Field(ge=0, lt=1)  # share of a target that is spread over all classes


class Finetune(Section):
    """Training of the whole encoder with a new head (protocol of VideoMAE, appendix)."""

    labels: tuple[str, ...] | None = None  # of data.labels; null: all of them
    epochs: int = Field(gt=0)  # of training
    warmup_epochs: int = Field(ge=0)  # of linear warm-up; at most `epochs`
    # clips per step, repetitions counted; a multiple of `accumulation` x
    # `augmentation.repeated`
    batch_size: int = Field(gt=0)
    accumulation: int = Field(gt=0)  # parts that a batch is computed in
    solver: Literal["adamw", "sgd"]  # of gradient descent
    base_lr: float = Field(gt=0)  # per 256 clips of a batch, as the next two
    final_lr: float = Field(ge=0)  # last rate
    warmup_lr: float = Field(ge=0)  # first rate
    betas: tuple[float, float]  # of `adamw`; the first is the momentum of `sgd`
    weight_decay: float = Field(ge=0)  # of the solver
    # largest norm of the gradient; null: unlimited
    clip_grad: float | None = Field(default=None, gt=0)
    frozen: bool  # only the head learns: the paper's linear probe, on augmented clips
    batch_norm: bool  # before the linear layer, without scale and shift, in place of LayerNorm
    layer_decay: float = Field(gt=0, le=1)  # learning rate of a block by that of the block after it
    drop_path: Share  # stochastic depth, of the last block
    head_scale: float = Field(gt=0)  # of the head's initial weights
    ema: float | None = Field(gt=0, lt=1)  # decay of the averaged weights, which are then scored
    augmentation: Augmentation  # of train clips
    sampling: Literal["dense", "per_segment"]  # of train clips, as `views.sampling`
    views: Views  # of val and test clips; their probabilities are averaged
    precision: Literal["fp32", "bf16"]  # of matrix products
    seed: int  # of initialisation, order and augmentation
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
    format: Literal["imagenet", "cifar100"]  # as it is published (docs/evaluation.md)
    folder: str  # train/CLASS/*, val/CLASS/*; or cifar-100-binary, as a folder or a .tar.gz


class Evaluation(Section):
    name: Name  # shown in the report
    views: Views  # of val and test clips for the probes
    train_views: Views = ONE_VIEW  # of train clips for the probes
    batch_size: int = Field(gt=0)  # clips at once, each view counted; changes no result
    # that compute features, each with `trainer.threads`; changes no result
    processes: int = Field(default=1, gt=0)
    # decoded views are kept on disk up to this size, in data/NAME/views, for the encoders that look
    # at them next; else each decodes them again. Changes no result
    views_gib: float = Field(default=4.0, ge=0)
    # score the test split; false leaves it alone (for trials), and val is scored
    test: bool = True
    # a clip that can no longer be read ends the stage, or is named beside the score
    on_failure: Literal["stop", "report"] = "stop"
    # null leaves the probe out, here and below
    linear: Annotated[LinearProbe | TrainedLinearProbe, Field(discriminator="solver")] | None
    attentive: AttentiveProbe | None = None  # cross-attention pooling with a learned query
    knn: NearestNeighbours | None  # weighted nearest neighbours
    finetune: Finetune | None = None  # the whole encoder is trained
    images: tuple[ImageSet, ...] = ()  # image data sets as still clips
