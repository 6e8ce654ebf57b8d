"""From any video file to the clips that an encoder sees, without trusting the file.

The file is decoded as the decode stage does it: by one ffmpeg process with limits of time and
memory, whose clean end is the proof that the video can be decoded. What is read here is the H.264
that this process wrote, so equal settings give the pixels that the pipeline's own stages give.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Clip, Decode
from pipeline.data.decode import transcode
from pipeline.data.decode.transcode import Segment
from pipeline.data.load import crops, decoders, sampling
from pipeline.data.records import Outcome
from pipeline.errors import UserError

WHOLE = Segment()


def decoding(clip: Clip, **changes: float | None) -> Decode:
    """Return the decode stage's settings for clips of this size.

    Pictures are scaled to the model's size at once. `changes` replace single settings
    (`short_side`, `fps`, `time_limit_s` ...).
    """
    settings: dict[str, object] = {
        "short_side": 2 * -(-clip.size // 2),
        "crf": 18,
        "gop": 12,
        "preset": "veryfast",
        "min_frames": 2,
        "time_limit_s": 600.0,
        "memory_limit_mib": 4096,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return Decode.model_validate(settings | given)


@dataclass(frozen=True)
class ClipRequest:
    """Which clips of a video are wanted: `clips`, spread evenly, the centre square of each."""

    clip: Clip
    decode: Decode
    clips: int = 1


@dataclass(frozen=True)
class DecodedClips:
    """What came of one video: C clips, or the reason why there are none."""

    outcome: Outcome
    reason: str = ""
    videos: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))  # C,T,H,W,3
    spans: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))  # C,2 in seconds


def decode_clips(
    video: Path, request: ClipRequest, segment: Segment = WHOLE, scratch: Path | str | None = None
) -> DecodedClips:
    """Return the clips of a video, or of a segment of it; no bad video is an exception.

    A span is from the beginning of its first frame to the end of its last, in the video's time. A
    video that is shorter than a clip stands still at its end.

    Args:
        scratch: a folder for what is decoded, which is deleted again; None: the system's.
    """
    if not video.is_file():
        there = "a folder, not a file" if video.is_dir() else "there is no such file"
        return DecodedClips(Outcome.MISSING, there)
    if not os.access(video, os.R_OK):
        return DecodedClips(Outcome.FORBIDDEN, "the file may not be read")
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        made, content = shown(video, request.decode, segment, Path(folder))
    if made.outcome is not Outcome.OK:
        return DecodedClips(made.outcome, made.reason)
    clip = request.clip
    chosen = sampling.centred(made.frames, clip, clip.sampling, request.clips)
    shape = (made.frames, made.height, made.width)
    try:
        pixels = decoders.read(content, chosen.ravel(), shape)
    except decoders.DecodeError as error:
        return DecodedClips(Outcome.FAILED, f"what ffmpeg made of it cannot be read: {error}")
    window = crops.along_long_side(made.height, made.width, 1)[0]
    parts = pixels.reshape(*chosen.shape, *pixels.shape[1:])
    videos = np.stack([crops.cut(part, window, clip.size) for part in parts])
    ends = np.stack([chosen.min(axis=1), chosen.max(axis=1) + 1], axis=1)
    return DecodedClips(Outcome.OK, made.reason, videos, (segment.start or 0.0) + ends / made.fps)


def usable_clips(video: Path, request: ClipRequest, segment: Segment = WHOLE) -> DecodedClips:
    """Return the clips of a video; raise UserError where it cannot be used."""
    decoded = decode_clips(video, request, segment)
    if decoded.outcome is not Outcome.OK:
        raise UserError(
            f"the video cannot be used ({decoded.outcome}): {decoded.reason}", place=str(video)
        )
    return decoded


def shown(
    video: Path, decode: Decode, segment: Segment, folder: Path
) -> tuple[transcode.Transcoded, bytes]:
    """Decode a video, or a segment of it, and return how it went and the H.264 that was made."""
    target = folder / "clip.mp4"
    made = transcode.transcode(video, target, segment, decode)
    return made, target.read_bytes() if made.outcome is Outcome.OK else b""
