"""`trainer`: how long, how fast and where a run is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from pipeline.configuration.section import Name, OpenShare, Section, Share
from pipeline.errors import UserError

SHOWN = 20  # values of a column in one message

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _keys_as_text(values: object) -> object:
    """Take numbers for the text that the list has: YAML reads `{0: 1}` as a number's weight."""
    if not isinstance(values, dict):
        return values
    return {str(key) if type(key) is int else key: value for key, value in values.items()}


class Optimiser(Section):
    """AdamW; the rates are per 256 clips of global batch and are scaled by it."""

    base_lr: float = Field(ge=0)  # highest rate, after the warm-up
    final_lr: float = Field(ge=0)  # last rate
    warmup_lr: float = Field(ge=0)  # first rate
    betas: tuple[float, float]  # of AdamW
    eps: float = Field(gt=0)  # of AdamW
    weight_decay: float = Field(ge=0)  # of AdamW
    # which the weight decay goes to by a cosine; null: it stays
    final_weight_decay: float | None = Field(default=None, ge=0)
    decay_mask_token: bool = False  # by weight decay, as other matrices
    # the schedules are those of a training that is longer by this factor, which is cut off
    # (V-JEPA); null: they end with the training
    stretch: float | None = Field(default=None, ge=1)
    # largest norm of the gradient; null: unlimited
    clip_grad: float | None = Field(default=None, gt=0)


class Tracking(Section):
    """Where the logged numbers go beside metrics.jsonl; keys and modes by each tool's own means."""

    tensorboard: bool = False  # event files in the run's folder (docs/resuming.md)
    wandb: str | None = None  # a project of Weights & Biases
    mlflow: str | None = None  # a server's address, or `file:FOLDER`


class Profile(Section):
    """A trace of a few steps (torch.profiler), once for every process that trains."""

    # steps of this process before it; the first ones are not like the others
    after: int = Field(ge=0)
    steps: int = Field(gt=0)  # that are traced


class Mixture(Section):
    """How much each component of the training data weighs (docs/training.md)."""

    # of the list, `label` or a further one: clips with the same value there are a component
    column: str
    # of each component's samples, by the value; only their ratios count: `{ssv2: 3, k400: 1}`
    weights: Annotated[dict[str, Weight], BeforeValidator(_keys_as_text)] = Field(min_length=1)

    def check(self, clips: Mapping[str, int], place: str) -> None:
        """Compare the weights with how many clips have each value of the column; "": none.

        Raises:
            UserError: where a value has no weight, or a weight no clip; `place` is the setting's.
        """
        if clips.keys() <= {""}:
            raise UserError(
                f"no clip to pretrain on has a value in the column {self.column!r}",
                place=f"{place}.column",
                remedy="name `label` or a further column of the list",
            )
        shown = {name: f"{name or '(empty)'} ({n:,})" for name, n in sorted(clips.items())}
        there = _listed(shown.values())
        if unweighted := [shown[name] for name in shown if name not in self.weights]:
            raise UserError(
                f"clips to pretrain on have values of the column {self.column!r} without a weight: "
                + _listed(unweighted),
                place=f"{place}.weights",
                remedy="give each value a weight above 0, or take its clips out of the list or out "
                f"of data.pretrain_splits; the values are {there}",
            )
        if absent := [name for name in self.weights if name not in clips]:
            raise UserError(
                f"no clip to pretrain on has the value {_listed(absent)} in the column "
                f"{self.column!r}",
                place=f"{place}.weights",
                remedy="take the weight away, or see why there is no such clip; the values are "
                + there,
            )


def _listed(texts: Iterable[str]) -> str:
    texts = list(texts)
    more = [f"and {len(texts) - SHOWN:,} more"] if len(texts) > SHOWN else []
    return ", ".join([*texts[:SHOWN], *more])


class Trainer(Section):
    added_later = ("mixture", "least_steps", "probe_drop_tubes")

    name: Name  # shown in the report
    # how a run is spread over processes (docs/training.md)
    engine: Literal["single", "ddp", "fsdp", "deepspeed"]
    zero_stage: Literal[1, 2, 3] = 2  # of `deepspeed`: what is spread
    nodes: int = Field(default=1, gt=0)  # machines; another number started is an error
    devices: int = Field(default=1, gt=0)  # processes on each machine, one per GPU
    # seconds after which a process that does not answer is given up
    timeout_s: float = Field(default=600, gt=0)
    seed: int  # of initialisation, order, crops and masks
    epochs: int = Field(ge=0)  # 0 leaves the model as it was initialised: the baseline of a table
    warmup_epochs: int = Field(ge=0)  # of linear warm-up, then cosine; at most `epochs`
    # optimiser steps: small data is repeated for more epochs, warm-up in proportion, until there
    # are so many
    least_steps: int = Field(default=0, ge=0)
    # clips per optimiser step, of all processes; a multiple of `nodes` x `devices` x
    # `accumulation`
    batch_size: int = Field(gt=0)
    # what each component of the data weighs, which otherwise its number of clips decides; null:
    # each clip comes once in an epoch
    mixture: Mixture | None = None
    # parts that a process computes its share of a batch in; the result is the same
    accumulation: int = Field(gt=0)
    # of matrix products; `auto`: `bf16` where the device has it, else `fp16` (on a CPU
    # `fp32`)
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    compile: bool = False  # the transformer blocks, by torch.compile
    # the same bits each time on an accelerator, at some cost of speed; a CPU has them anyway
    deterministic: bool = False
    # decay of averaged weights, which then are the model that is written; null: none
    ema: float | None = Field(default=None, gt=0, lt=1)
    threads: int = Field(gt=0)  # of each process, on CPU; also what the job asks of Snakemake
    workers: int = Field(ge=0)  # loader processes; 0 loads in the training process
    cache_mib: int = Field(ge=0)  # decoded frames kept in memory by each loader worker
    # of `h264`; equal pixels; `auto`: the first of torchcodec, decord and PyAV that is there, as is
    # `decord` where there is none; `nvdec`: the video engines of an NVIDIA GPU, whose pixels are
    # rounded otherwise (docs/shards.md)
    decoder: Literal["auto", "decord", "torchcodec", "pyav", "nvdec"] = "auto"
    # a clip that can no longer be read is left out and named; above this share of the clips
    # the run stops
    max_failed_share: Share = 0.001
    optimiser: Optimiser  # AdamW
    log_every: int = Field(gt=0)  # steps
    # steps between two online evaluations of the encoder (docs/training.md); 0: never
    probe_every: int = Field(default=0, ge=0)
    # columns of labels that they ask nearest neighbours for; null: all; []: none (RankMe alone)
    probe_labels: tuple[str, ...] | None = None
    # clips that they ask about, and as many whose labels answer; they stay in memory, decoded
    probe_clips: int = Field(default=128, gt=1)
    # follows `evaluation.drop_tubes`: share of tubes that they leave out of the mean; null: none
    probe_drop_tubes: OpenShare | None = None
    checkpoint_every: int = Field(gt=0)  # steps
    keep_checkpoints: int = Field(gt=0)  # the last so many stay
    # steps, a multiple of `checkpoint_every`: these checkpoints stay for ever
    keep_every: int | None = Field(default=None, gt=0)
    # where the code of a training of more than half an hour has changed since: stop and ask, go on
    # with its checkpoints all the same, or set them aside and begin anew (docs/resuming.md)
    on_code_change: Literal["stop", "resume", "restart"] = "stop"
    tracking: Tracking = Tracking()  # where the logged numbers are shown
    profile: Profile | None = None  # a trace of a few steps; null: none

    @model_validator(mode="after")
    def _adds_up(self) -> Trainer:
        world = self.nodes * self.devices
        if self.engine == "single" and world > 1:
            raise ValueError("engine 'single' is for one process: use ddp, fsdp or deepspeed")
        if self.batch_size % (world * self.accumulation):
            raise ValueError(
                "batch_size must be a multiple of nodes x devices x accumulation = "
                f"{world * self.accumulation}"
            )
        if self.engine == "deepspeed" and self.precision == "fp16":
            raise ValueError("engine 'deepspeed' has no precision 'fp16': use ddp or fsdp, or bf16")
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"keep_every {self.keep_every} must be a multiple of checkpoint_every "
                f"({self.checkpoint_every}): at other steps there is no checkpoint to keep"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"{self.warmup_epochs} warmup_epochs are more than {self.epochs} epochs: set "
                f"trainer.warmup_epochs, too, to {self.epochs} or less"
            )
        return self
