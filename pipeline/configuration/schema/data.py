"""`data`: the videos, what is done with them, and the clips that the model sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.configuration.schema.section import Interval, Name, PositiveInterval, Section, Share


class ClipRandAugment(Section):
    """torchvision's RandAugment (Cubuk et al. 2020)."""

    operations: int = Field(gt=0)  # one after the other
    magnitude: int = Field(ge=0, le=30)


class ColourJitter(Section):
    """Largest relative change of each; of the hue, in turns of the colour circle."""

    probability: Share
    brightness: float = Field(ge=0)
    contrast: float = Field(ge=0)
    saturation: float = Field(ge=0)
    hue: float = Field(ge=0, le=0.5)


class ClipAugmentation(Section):
    """What is done to clips before pretraining, all frames of a clip alike (`clips.augment`)."""

    randaugment: ClipRandAugment | None = None
    colour: ColourJitter | None = None
    grey: Share = 0.0  # probability that a clip loses its colours
    erasing: Share = 0.0  # probability that a rectangle of a clip is painted over


class Clip(Section):
    """The view of a video that the model sees: `frames` x `size` x `size` pixels."""

    frames: int = Field(gt=0)
    sampling: Literal["dense", "per_segment"] = "dense"  # every stride-th; one of each segment
    stride: int = Field(gt=0)  # source frames from one sampled frame to the next; read by dense
    size: int = Field(gt=0)  # pixels, square
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...]  # multi-scale crop, of the short side
    flip: bool  # mirror at random; off where left and right are labels
    augmentation: ClipAugmentation | None = None


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


class YouTube(Section):
    """How videos are asked of YouTube (`pipeline.videos.youtube`, docs/sources.md)."""

    format: str  # yt-dlp's format selection
    whole: bool  # fetch whole videos, not the part between `start` and `end` of each clip
    connections: int = Field(gt=0)  # videos at once, in one job
    pause_s: Interval  # before each video, drawn at random
    bytes_per_s: int | None = Field(default=None, gt=0)  # of one connection; null: no limit
    refusals: int = Field(gt=0)  # in a row; then no job asks again
    rest_s: float = Field(ge=0)  # for so long
    cookies: str | None = None  # a cookies.txt, relative to the project
    address: str = Field(pattern=r"^https?://[^{}]*$")  # the id comes after it


class Download(Section):
    retries: int = Field(ge=0)
    timeout_s: float = Field(gt=0)
    connections: int = Field(gt=0)  # at once, in one job
    per_host: int = Field(gt=0)
    unpack_ratio: float = Field(gt=1)  # an archive that grows by more is refused
    storage: dict[str, dict[str, str | bool | int | float]]  # fsspec's options, by scheme: s3, gs
    youtube: YouTube


class Decode(Section):
    short_side: int = Field(gt=0, multiple_of=2)  # pixels of every clip's shorter side
    fps: float | None = Field(default=None, gt=0)  # null keeps the source's rate
    crf: int = Field(ge=0, le=51)
    gop: int = Field(gt=0)  # frames from one keyframe to the next
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"
    ]  # x264
    tune: Literal["fastdecode"] | None = None  # x264: loads 1.7 x as fast for a tenth more bytes
    min_frames: int = Field(ge=1)  # after cutting and resampling
    max_seconds: float | None = Field(default=None, gt=0)  # of output; null: the whole video
    time_limit_s: float = Field(gt=0)  # wall clock for one file
    memory_limit_mib: int = Field(gt=0)  # address space of one ffmpeg


class Shards(Section):
    """How clips are stored (docs/shards.md); their size in pixels is `decode.short_side`."""

    codec: Literal["h264", "jpeg", "raw"]
    jpeg_quality: int = Field(default=90, ge=1, le=100)  # of libjpeg; read by jpeg
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
