"""Disk and operations that an experiment takes, from measured rates.

A rate that was measured says where (docs/benchmarks.md, docs/shards.md); one that was not is an
argument, and never a default. `benchmarks.reproducing` computes docs/reproducing.md with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Data, Run
from pipeline.method.sigma import SigmaModel
from pipeline.training import flops

# Measured (docs/shards.md): nine real videos, 256 pixels the shorter side, 430 the other (mean).
MEASURED_PIXELS = 330_000 / 3  # of a frame
BYTES_PER_PIXEL = {
    "h264": 3_700 / MEASURED_PIXELS,
    "jpeg": 19_700 / MEASURED_PIXELS,
    "raw": 3.0,
}
FASTDECODE = 1.1  # times the bytes of h264 (docs/notes/data-speed.md)
SOURCE_BYTES_PER_S = 0.73e6 / 7  # measured (docs/benchmarks.md): 480p to 1080p, of about 7 s
SMALLEST_CLIP = 4_096  # bytes: headers, the table of frames, a block of the file system

ASPECT = 16 / 9  # of videos of which nothing is known
SECONDS, RATE = 10.0, 30.0  # likewise
STATE_BYTES = 12  # of a parameter in a checkpoint: itself and two moments, float32


@dataclass(frozen=True)
class Footage:
    """What a list holds: clips, and of these on average seconds, frames a second, shape, bytes."""

    clips: int
    seconds: float = SECONDS
    rate: float = RATE
    aspect: float = ASPECT
    source_bytes_per_s: float = SOURCE_BYTES_PER_S


@dataclass(frozen=True)
class Room:
    """Bytes on disk."""

    sources: float  # what was fetched
    clips: float  # decoded, kept so that shards can be written anew
    shards: float

    @property
    def total(self) -> float:
        return self.sources + self.clips + self.shards


def frames_of(footage: Footage, data: Data) -> float:
    """Return the frames of an average clip once it is decoded."""
    seconds = min(footage.seconds, data.decode.max_seconds or footage.seconds)
    return seconds * (data.decode.fps or footage.rate)


def room(footage: Footage, data: Data, *, is_fetched: bool) -> Room:
    """Return the disk that a data set takes; sources count where they are fetched."""
    pixels = data.decode.short_side**2 * footage.aspect
    per_clip = frames_of(footage, data) * pixels
    tuned = FASTDECODE if data.decode.tune else 1.0
    decoded = max(SMALLEST_CLIP, per_clip * BYTES_PER_PIXEL["h264"] * tuned)
    codec = data.shards.codec
    stored = decoded if codec == "h264" else max(SMALLEST_CLIP, per_clip * BYTES_PER_PIXEL[codec])
    source = max(SMALLEST_CLIP, footage.seconds * footage.source_bytes_per_s)
    sources = footage.clips * source if is_fetched else 0.0
    return Room(sources, footage.clips * decoded, footage.clips * stored)


def model_of(run: Run, clip: Clip) -> SigmaModel:
    """Build a run's pretraining model without memory for it, and without its frozen teacher."""
    with torch.device("meta"):
        return sigma_model(run.model, run.objective, clip, load_target=False)


def checkpoint_bytes(run: Run, clip: Clip) -> int:
    """Return the bytes of one training state."""
    average = 4 if run.trainer.ema is not None else 0
    parameters = sum(parameter.numel() for parameter in model_of(run, clip).parameters())
    return parameters * (STATE_BYTES + average)


def operations_per_clip(run: Run, clip: Clip, teacher: float = 0.0) -> float:
    """Return the operations of a step for one clip; `teacher`: of a frozen one's forward pass."""
    return flops.per_clip(model_of(run, clip), run.objective) + teacher
