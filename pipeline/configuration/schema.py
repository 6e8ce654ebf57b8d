"""What `params.yaml` may hold: every key, its type, its bounds. Unknown keys are errors.

One definition serves the compose command, the Snakefile and every stage, so that a mistake is
refused at the boundary and nowhere else. The values themselves live in `pipeline/conf`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes a folder name
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]  # a dot parts DVC's keys
Share = Annotated[float, Field(ge=0, le=1)]


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("the first bound is greater than the second")
    return interval


NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Interval = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveInterval = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of the configuration: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Clip(Section):
    """The view of a video that the model sees: `frames` x `size` x `size` pixels."""

    frames: int = Field(gt=0)
    stride: int = Field(gt=0)  # source frames from one sampled frame to the next
    size: int = Field(gt=0)  # pixels, square
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...]  # multi-scale crop, of the short side
    flip: bool  # mirror at random; off where left and right are labels


class Synthetic(Section):
    """The embedded data set: moving digits (`pipeline.videos.synthetic`, docs/synthetic.md)."""

    seed: int = Field(ge=0)
    train: int = Field(ge=0)  # clips
    val: int = Field(ge=0)
    test: int = Field(ge=0)
    size: int = Field(ge=16, multiple_of=2)  # pixels, square
    frames: int = Field(ge=2)
    fps: int = Field(gt=0)
    motions: tuple[str, ...] = Field(min_length=2)
    digit_size: PositiveInterval  # pixels across the digit, smallest and largest
    contrast: float = Field(gt=0, le=1)  # of the digit against the background's mean
    texture: float = Field(ge=0, le=1)  # contrast of the background's and the digit's texture
    fall: Interval  # exponents of the textures' 1 / f amplitude: 1 is natural, 0 white noise
    tint: Share  # how far the colours of digit and background may be from grey
    both_polarities: bool  # half of the digits are darker than their background
    speed: Interval  # pixels per frame, of the digit along its path
    period: PositiveInterval  # frames of one turn around the circle, or of one growth
    acceleration: Share  # largest relative change of speed from the middle to either end
    pan: Interval  # pixels per frame, of the background in a random direction
    tilt: float = Field(ge=0, le=180)  # degrees, largest

    @model_validator(mode="after")
    def _digit_fits(self) -> Synthetic:
        if self.digit_size[1] > self.size:
            raise ValueError("digit_size is greater than the frame (size)")
        return self


class Download(Section):
    retries: int = Field(ge=0)
    timeout_s: float = Field(gt=0)
    connections: int = Field(gt=0)  # at once, in one job
    per_host: int = Field(gt=0)


class Decode(Section):
    short_side: int = Field(gt=0, multiple_of=2)  # pixels of every clip's shorter side
    fps: float | None = Field(default=None, gt=0)  # null keeps the source's rate
    crf: int = Field(ge=0, le=51)
    gop: int = Field(gt=0)  # frames from one keyframe to the next
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"
    ]  # x264
    min_frames: int = Field(ge=1)  # after cutting and resampling
    max_seconds: float | None = Field(default=None, gt=0)  # of output; null: the whole video
    time_limit_s: float = Field(gt=0)  # wall clock for one file
    memory_limit_mib: int = Field(gt=0)  # address space of one ffmpeg


class Shards(Section):
    codec: Literal["h264"]
    clips_per_shard: int = Field(gt=0)


class Data(Section):
    name: Name
    manifest: str | None = None  # a CSV; null where `synthetic` makes the rows
    rows_from: str  # the CSV, or what describes made rows: for dvc.yaml, which knows no null
    synthetic: Synthetic | None = None
    labels: tuple[str, ...]  # manifest columns that a probe predicts
    pretrain_splits: tuple[str, ...]
    chunks: int = Field(gt=0)  # jobs per stage; a clip's chunk is a hash of its id
    max_lost_share: Share  # above this the data set is refused
    clip: Clip
    download: Download
    decode: Decode
    shards: Shards

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if (self.manifest is None) == (self.synthetic is None):
            raise ValueError("exactly one of data.manifest and data.synthetic must be set")
        if self.manifest is not None and self.rows_from != self.manifest:
            raise ValueError("data.rows_from must be data.manifest where that is set")
        return self


class Model(Section):
    """Encoder and decoder (paper, section 4 and its appendix)."""

    name: Name
    tube: tuple[int, int, int]  # frames, height, width of one space-time tube
    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(gt=0)
    decoder_width: int = Field(gt=0)
    decoder_depth: int = Field(gt=0)
    decoder_heads: int = Field(gt=0)
    drop_path: Share = 0.0
    activation_checkpointing: bool = False


class MlpTarget(Section):
    kind: Literal["mlp"]
    hidden: tuple[int, ...]
    width: int = Field(gt=0)


class PixelTarget(Section):
    kind: Literal["pixel"]


class DinoTarget(Section):
    kind: Literal["dino"]
    model: str  # a timm name
    weights: str | None = None  # a local safetensors file; null: timm's hub
    sha256: str | None = None  # of that file; checked where given


Target = Annotated[MlpTarget | PixelTarget | DinoTarget, Field(discriminator="kind")]


class Motion(Section):
    """How a mask follows motion (`pipeline.clips.masks`); read where `mask.kind` is `motion`."""

    share: float = Field(ge=0, lt=1)  # of the visible tubes; the rest is spread evenly
    contrast: float = Field(gt=0)  # grey levels: slopes well below it are too flat to tell motion


class Mask(Section):
    kind: Literal["tube", "random", "motion"]
    ratio: float = Field(gt=0, lt=1)
    motion: Motion | None = None

    @model_validator(mode="after")
    def _motion_is_told(self) -> Mask:
        if self.kind == "motion" and self.motion is None:
            raise ValueError("kind 'motion' needs motion.share and motion.contrast")
        return self


class Objective(Section):
    """What the masked tubes are compared with, and how."""

    name: Name
    target: Target
    loss: Literal["sinkhorn", "mse"]
    mask: Mask
    prototypes: int = Field(ge=0)
    epsilon: float = Field(gt=0)
    iterations: int = Field(gt=0)
    temperature: float = Field(gt=0)

    @model_validator(mode="after")
    def _makes_sense(self) -> Objective:
        if self.loss == "sinkhorn" and self.prototypes < 2:
            raise ValueError("loss 'sinkhorn' needs prototypes >= 2")
        if self.loss == "sinkhorn" and self.target.kind == "pixel":
            raise ValueError(
                "loss 'sinkhorn' compares features with prototypes: target 'pixel' has none; "
                "use target 'mlp' or 'dino', or loss 'mse'"
            )
        if self.loss == "mse" and self.target.kind == "mlp":
            raise ValueError(
                "loss 'mse' with a jointly trained target 'mlp' collapses to a constant "
                "(paper, section 1); use loss 'sinkhorn', or target 'pixel' or 'dino'"
            )
        return self


class Optimiser(Section):
    """AdamW; the rates are per 256 clips of global batch and are scaled by it."""

    base_lr: float = Field(ge=0)
    final_lr: float = Field(ge=0)
    warmup_lr: float = Field(ge=0)
    betas: tuple[float, float]
    eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    clip_grad: float | None = Field(default=None, gt=0)


class Trainer(Section):
    name: Name
    engine: Literal["single"]
    seed: int
    epochs: int = Field(ge=0)  # 0 leaves the model untrained
    warmup_epochs: int = Field(ge=0)
    batch_size: int = Field(gt=0)  # global: clips per optimiser step
    accumulation: int = Field(gt=0)
    precision: Literal["fp32", "bf16"]
    threads: int = Field(gt=0)  # of one process on CPU
    workers: int = Field(ge=0)  # loader processes; 0 loads in the training process
    cache_mib: int = Field(ge=0)  # decoded frames kept in memory by each loader worker
    optimiser: Optimiser
    log_every: int = Field(gt=0)  # steps
    checkpoint_every: int = Field(gt=0)  # steps
    keep_checkpoints: int = Field(gt=0)

    @model_validator(mode="after")
    def _adds_up(self) -> Trainer:
        if self.batch_size % self.accumulation:
            raise ValueError("batch_size must be a multiple of accumulation")
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"{self.warmup_epochs} warmup_epochs are more than {self.epochs} epochs: set "
                f"trainer.warmup_epochs, too, to {self.epochs} or less"
            )
        return self


class Views(Section):
    segments: int = Field(gt=0)  # clips spread evenly over the video
    crops: int = Field(gt=0)  # 1: centre; 3: along the long side


class LinearProbe(Section):
    """Multinomial logistic regression on standardised features; C chosen on `val`."""

    inverse_regularisation: tuple[Annotated[float, Field(gt=0)], ...]
    max_iterations: int = Field(gt=0)


class NearestNeighbours(Section):
    k: int = Field(gt=0)
    temperature: float = Field(gt=0)


class Evaluation(Section):
    name: Name
    views: Views
    batch_size: int = Field(gt=0)
    linear: LinearProbe | None
    knn: NearestNeighbours | None


class Run(Section):
    """One pretrained (or untrained) encoder of the experiment."""

    model: Model
    objective: Objective
    trainer: Trainer


class Params(Section):
    """The resolved configuration: all of `params.yaml`.

    `model`, `objective` and `trainer` at the top level are what runs copy by interpolation;
    stages read `runs` only.
    """

    name: Name  # of the experiment: its results go to results/<name>
    data: Data
    model: Model
    objective: Objective
    trainer: Trainer
    evaluation: Evaluation
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
