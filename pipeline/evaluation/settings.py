"""Settings that several benchmarks share: views of a video, and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from pipeline.configuration.section import PositiveInterval, Section, Share


def _in_order(counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(counts)))


Counts = Annotated[
    tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_in_order)
]


class Views(Section):
    """Which clips of a video are looked at: `segments` x `crops` of them, always the same ones."""

    # clips spread evenly over the video; probabilities are averaged (k-NN: features)
    segments: int = Field(gt=0)
    crops: int = Field(gt=0)  # 1: the centre; 3: along the long side
    # consecutive frames, `data.clip.stride` apart; one frame of each of as many equal
    # segments
    sampling: Literal["dense", "per_segment"] = "dense"


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

    added_later = ("least_steps", "deterministic")

    labels: tuple[str, ...] | None = None  # of data.labels; null: all of them
    epochs: int = Field(gt=0)  # of training
    warmup_epochs: int = Field(ge=0)  # of linear warm-up; at most `epochs`
    # optimiser steps: few clips are repeated for more epochs until there are so many
    least_steps: int = Field(default=0, ge=0)
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
    # of a clip's tubes, those that change least: the encoder does not see them (EVEREST: 0.4)
    drop_tubes: Share = 0.0
    head_scale: float = Field(gt=0)  # of the head's initial weights
    ema: float | None = Field(gt=0, lt=1)  # decay of the averaged weights, which are then scored
    augmentation: Augmentation  # of train clips
    sampling: Literal["dense", "per_segment"]  # of train clips, as `views.sampling`
    views: Views  # of val and test clips; their probabilities are averaged
    # of matrix products; `auto`: `bf16` where the device has it, else `fp32`
    precision: Literal["auto", "fp32", "bf16"]
    # the same bits each time on an accelerator, as `trainer.deterministic`
    deterministic: bool = False
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
