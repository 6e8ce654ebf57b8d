"""`trainer`: how long, how fast and where a run is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.configuration.schema.section import Name, Section, Share


class Optimiser(Section):
    """AdamW; the rates are per 256 clips of global batch and are scaled by it."""

    base_lr: float = Field(ge=0)
    final_lr: float = Field(ge=0)
    warmup_lr: float = Field(ge=0)
    betas: tuple[float, float]
    eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    clip_grad: float | None = Field(default=None, gt=0)


class Tracking(Section):
    """Where the logged numbers go beside metrics.jsonl; keys and modes by each tool's own means."""

    tensorboard: bool = False  # into the run's folder
    wandb: str | None = None  # the project's name
    mlflow: str | None = None  # the tracking URI: a server's address, or a folder's


class Profile(Section):
    """A trace of a few steps (torch.profiler), once for every process that trains."""

    after: int = Field(ge=0)  # steps of this process; the first ones are not like the others
    steps: int = Field(gt=0)


class Trainer(Section):
    name: Name
    engine: Literal["single", "ddp", "fsdp", "deepspeed"]
    zero_stage: Literal[1, 2, 3] = 2  # of engine deepspeed
    nodes: int = Field(default=1, gt=0)
    devices: int = Field(default=1, gt=0)  # processes on each node, one per accelerator
    timeout_s: float = Field(default=600, gt=0)  # processes wait for each other no longer
    seed: int
    epochs: int = Field(ge=0)  # 0 leaves the model untrained
    warmup_epochs: int = Field(ge=0)
    batch_size: int = Field(gt=0)  # global: clips per optimiser step
    accumulation: int = Field(gt=0)  # parts in which a process computes its share of a batch
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    compile: bool = False  # the transformer blocks, by torch.compile
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of the averaged weights; null: none
    threads: int = Field(gt=0)  # of one process on CPU
    workers: int = Field(ge=0)  # loader processes; 0 loads in the training process
    cache_mib: int = Field(ge=0)  # decoded frames kept in memory by each loader worker
    decoder: Literal["auto", "decord", "torchcodec"] = "auto"  # of h264; they give equal pixels
    max_failed_share: Share = 0.001  # of the clips may be unreadable; above it the run stops
    optimiser: Optimiser
    log_every: int = Field(gt=0)  # steps
    checkpoint_every: int = Field(gt=0)  # steps
    keep_checkpoints: int = Field(gt=0)  # the last so many
    keep_every: int | None = Field(default=None, gt=0)  # steps: the checkpoints that stay for ever
    tracking: Tracking = Tracking()
    profile: Profile | None = None

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
