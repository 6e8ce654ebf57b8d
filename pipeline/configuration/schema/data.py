"""`data`: the videos, what is done with them, and the clips that the model sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.configuration.section import (
    Interval,
    Name,
    PositiveInterval,
    PositiveShare,
    Section,
    Share,
    ShareInterval,
)


class ClipRandAugment(Section):
    """torchvision's RandAugment (Cubuk et al. 2020)."""

    operations: int = Field(gt=0)  # of them, one after the other
    magnitude: int = Field(ge=0, le=30)  # of each operation


class ColourJitter(Section):
    """Largest relative change of each; of the hue, in turns of the colour circle."""

    probability: Share  # that a clip's colours are changed
    brightness: float = Field(ge=0)  # largest change
    contrast: float = Field(ge=0)  # largest change
    saturation: float = Field(ge=0)  # largest change
    hue: float = Field(ge=0, le=0.5)  # largest change, in turns of the colour circle


class ClipAugmentation(Section):
    """What is done to clips before pretraining, all frames of a clip alike (`clips.augment`)."""

    randaugment: ClipRandAugment | None = None  # torchvision's RandAugment; null: none
    colour: ColourJitter | None = None  # colour jitter; null: none
    grey: Share = 0.0  # probability that a clip loses its colours
    erasing: Share = 0.0  # probability that a rectangle of a clip is painted over


class ResizedCrop(Section):
    """A rectangle of random area and aspect ratio (Szegedy et al. 2015, section 6)."""

    area: ShareInterval  # of the rectangle, as a share of the frame
    aspect: PositiveInterval  # its width by its height


class Clip(Section):
    """The view of a video that the model sees: `frames` x `size` x `size` pixels."""

    added_later = ("crop",)

    frames: int = Field(gt=0)  # a multiple of the tube's
    # in pretraining: every `stride`-th frame, or one of each of `frames` equal segments of
    # the video
    sampling: Literal["dense", "per_segment"] = "dense"
    # video frames from one sampled frame to the next; read by `dense` alone
    stride: int = Field(gt=0)
    size: int = Field(gt=0)  # pixels, square; a multiple of the tube's
    # multi-scale crop in pretraining: sides as shares of the short side
    scales: tuple[PositiveShare, ...]
    # in its place: a crop of random area and aspect ratio; null: none
    crop: ResizedCrop | None = None
    # mirror at random, in pretraining and (as their default) in fine-tuning; a label such as
    # "swiping left" loses its meaning by it
    flip: bool
    # further changes in pretraining, on the accelerator where there is one; null: none
    augmentation: ClipAugmentation | None = None


class Synthetic(Section):
    """The embedded data set: moving digits (`pipeline.data.synthetic`, docs/synthetic.md)."""

    seed: int = Field(ge=0)  # same seed, same frames
    train: int = Field(ge=0)  # clips of the split
    val: int = Field(ge=0)  # clips of the split
    test: int = Field(ge=0)  # clips of the split
    size: int = Field(ge=16, multiple_of=2)  # pixels, square
    frames: int = Field(ge=2)  # of each video
    fps: int = Field(gt=0)  # of each video
    # which motions, and classes of the label `motion`
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
    """How videos are asked of YouTube (`pipeline.data.fetch.youtube`, docs/sources.md)."""

    format: str  # yt-dlp's format selection; sound is not needed
    whole: bool  # fetch whole videos, not the part between `start` and `end` of each clip
    connections: int = Field(gt=0)  # videos at once, in one job
    pause_s: Interval  # seconds before each video, drawn at random
    # of one connection, only for whole videos; null: no limit
    bytes_per_s: int | None = Field(default=None, gt=0)
    refusals: int = Field(gt=0)  # after so many in a row no job asks for `rest_s`
    rest_s: float = Field(ge=0)  # seconds
    # which programs may run the scripts of YouTube's pages, if they are installed; deno alone
    # keeps them from files and network
    runtimes: tuple[Literal["deno", "node", "bun", "quickjs"], ...] = ("deno",)
    # a cookies.txt of a session that is logged in, relative to the project
    cookies: str | None = None
    # where a video is asked for; its id comes after it
    address: str = Field(pattern=r"^https?://[^{}]*$")


class Download(Section):
    retries: int = Field(ge=0)  # further tries after a passing failure
    timeout_s: float = Field(gt=0)  # seconds without an answer
    connections: int = Field(gt=0)  # at once, in one job
    per_host: int = Field(gt=0)  # at once, to one server, in one job
    # largest file, or archive (all its parts together, and what it is unpacked to)
    max_bytes: int = Field(default=100_000_000_000, gt=0)
    unpack_ratio: float = Field(gt=1)  # an archive that grows to more times its size is refused
    # follow a redirect from a public address to one of this network (docs/sources.md)
    private_redirects: bool = False
    # fsspec's options, by scheme: `{s3: {anon: true}}` (docs/sources.md)
    storage: dict[str, dict[str, str | bool | int | float]]
    youtube: YouTube


class Decode(Section):
    short_side: int = Field(gt=0, multiple_of=2)  # pixels of every clip's shorter side
    fps: float | None = Field(default=None, gt=0)  # constant frame rate; null keeps the source's
    crf: int = Field(ge=0, le=51)  # H.264 quality; less is better and larger
    gop: int = Field(gt=0)  # frames from one keyframe to the next
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"
    ]  # x264's speed against size
    # x264's tuning: loads 1.7 x as fast for a tenth more bytes
    tune: Literal["fastdecode"] | None = None
    min_frames: int = Field(ge=1)  # a clip with fewer, after cutting and resampling, is `too_short`
    max_seconds: float | None = Field(default=None, gt=0)  # longest output; null: the whole video
    time_limit_s: float = Field(gt=0)  # for one file, by the wall clock; then it is `timed_out`
    memory_limit_mib: int = Field(gt=0)  # address space of one ffmpeg


class Shards(Section):
    """How clips are stored (docs/shards.md); their size in pixels is `decode.short_side`."""

    # how pictures are stored: sizes and speeds in docs/shards.md
    codec: Literal["h264", "jpeg", "raw"]
    jpeg_quality: int = Field(default=90, ge=1, le=100)  # of libjpeg; read by `jpeg` alone
    clips_per_shard: int = Field(gt=0)  # at most
    # keep the codec's motion vectors beside the pictures, for masks that follow them
    # (`objective.mask.source: codec`); needs PyAV
    motion_vectors: bool = False
    # where shards lie that are not in the folder of the index, read by ranges: s3://, gs://,
    # https://, ... (docs/shards.md); null: all are there
    storage: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*://\S+$")] | None = None
    # of these, so many GiB of clips are kept beside the index once they have been read
    storage_cache_gib: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Data(Section):
    # of the data set: `downloads/NAME`, `data/NAME`; experiments of equal `data` may share it
    name: Name
    # a CSV with a row per clip (docs/sources.md); null where `synthetic` makes the rows
    manifest: str | None = None
    # follows `manifest` by itself; for made rows, the file that describes them (DVC knows no
    # null)
    rows_from: str
    # the embedded data set; exactly one of `manifest` and `synthetic` is set
    synthetic: Synthetic | None = None
    labels: tuple[str, ...]  # columns of the list that the probes predict
    # of these, what `evaluation=demo` fine-tunes on; null: all of them
    finetune_labels: tuple[str, ...] | None = None
    pretrain_splits: tuple[str, ...]  # what is pretrained on
    # jobs per stage; the chunk of a clip is a hash of its id. 500 to 1,000 videos each work
    # well
    chunks: int = Field(gt=0)
    max_lost_share: Share  # a data set that has lost more of its clips is refused
    clip: Clip
    download: Download
    decode: Decode
    shards: Shards  # how clips are stored

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if (self.manifest is None) == (self.synthetic is None):
            raise ValueError("exactly one of data.manifest and data.synthetic must be set")
        if self.manifest is not None and self.rows_from != self.manifest:
            raise ValueError("data.rows_from must be data.manifest where that is set")
        return self
