"""Which frames of a clip are looked at.

A dense view is `length` frames, `stride` source frames apart; it spans (length-1) stride + 1
frames. What happens where the clip is shorter than that is one policy, `hold`: the last frame is
repeated, as if the video stood still at its end. A view per segment has one frame of each of
`length` equal parts of the clip, however long it is. `centred` and `random` choose between the two:
whatever looks at a video asks one of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.configuration.schema import Clip
from pipeline.data.load.order import randint

Indices = npt.NDArray[np.int64]
Sampling = Literal["dense", "per_segment"]


def centred(frames: int, clip: Clip, kind: Sampling, views: int = 1) -> Indices:
    """Return fixed views of a video of `frames` frames, int64 (views, clip.frames)."""
    if kind == "dense":
        return dense_centred(frames, clip.frames, clip.stride, views)
    return per_segment_centred(frames, clip.frames, views)


def random(frames: int, clip: Clip, kind: Sampling, rng: np.random.Generator) -> Indices:
    """Return a view of a video of `frames` frames as `rng` draws it, int64 (clip.frames,)."""
    if kind == "dense":
        return dense_random(frames, clip.frames, clip.stride, rng)
    return per_segment(frames, clip.frames, rng)


def ends(chosen: Indices) -> tuple[int, int]:
    """Return the first and the last of some frames."""
    return int(chosen.min()), int(chosen.max())


def starts(frames: int, length: int, stride: int) -> int:
    """Return how many first frames a dense view can have: 1 where the clip is too short."""
    return max(1, frames - (length - 1) * stride)


def dense(frames: int, length: int, stride: int, start: int) -> Indices:
    """Return int64 (length,): start, start + stride, ..., held at the last of `frames` frames."""
    return np.minimum(start + stride * np.arange(length), frames - 1)


def dense_random(frames: int, length: int, stride: int, rng: np.random.Generator) -> Indices:
    """Return a dense view, int64 (length,), from a start uniform among those that fit."""
    return dense(frames, length, stride, randint(rng, starts(frames, length, stride)))


def dense_centred(frames: int, length: int, stride: int, segments: int) -> Indices:
    """Return `segments` dense views spread evenly over the clip, int64 (segments, length).

    The starts that fit are divided into `segments` equal parts; each view begins in the middle
    of its part. One segment is the middle of the clip.
    """
    possible = starts(frames, length, stride)
    middles = ((2 * k + 1) * possible // (2 * segments) for k in range(segments))
    return np.stack([dense(frames, length, stride, start) for start in middles])


def per_segment(frames: int, length: int, rng: np.random.Generator) -> Indices:
    """Return one frame, uniform, from each of `length` equal segments of the clip: int64 (length,).

    (TSN, Wang et al. 2016, section 3.1; the sampling of Something-Something.) A clip of fewer
    frames repeats some.
    """
    return _within(frames, length, rng.random(length))


def per_segment_centred(frames: int, length: int, views: int) -> Indices:
    """Return `views` views of one frame from each segment, int64 (views, length).

    View k takes the frame in the middle of the k-th of `views` equal parts of each segment. One
    view is the middles of the segments.
    """
    middles = [(2 * k + 1) / (2 * views) for k in range(views)]
    return np.stack([_within(frames, length, np.full(length, middle)) for middle in middles])


def _within(frames: int, length: int, shares: npt.NDArray[np.float64]) -> Indices:
    """Return the frame at a share, in [0, 1), of each segment."""
    return np.minimum(((np.arange(length) + shares) * frames / length).astype(np.int64), frames - 1)
