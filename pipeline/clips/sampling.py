"""Which frames of a clip are looked at.

A dense view is `length` frames, `stride` source frames apart; it spans (length-1) stride + 1
frames. What happens where the clip is shorter than that is one policy, `hold`: the last frame is
repeated, as if the video stood still at its end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.clips.order import below

Indices = npt.NDArray[np.int64]


def starts(frames: int, length: int, stride: int) -> int:
    """Return how many first frames a dense view can have: 1 where the clip is too short."""
    return max(1, frames - (length - 1) * stride)


def dense(frames: int, length: int, stride: int, start: int) -> Indices:
    """Return int64 (length,): start, start + stride, ..., held at the last of `frames` frames."""
    return np.minimum(start + stride * np.arange(length), frames - 1)


def dense_random(frames: int, length: int, stride: int, rng: np.random.Generator) -> Indices:
    """Return a dense view, int64 (length,), from a start uniform among those that fit."""
    return dense(frames, length, stride, below(rng, starts(frames, length, stride)))


def dense_centred(frames: int, length: int, stride: int, segments: int) -> Indices:
    """Return `segments` dense views spread evenly over the clip, int64 (segments, length).

    The starts that fit are divided into `segments` equal parts; each view begins in the middle
    of its part. One segment is the middle of the clip.
    """
    possible = starts(frames, length, stride)
    middles = ((2 * k + 1) * possible // (2 * segments) for k in range(segments))
    return np.stack([dense(frames, length, stride, start) for start in middles])


def per_segment(frames: int, length: int, rng: np.random.Generator | None = None) -> Indices:
    """Return one frame from each of `length` equal segments of the clip, int64 (length,).

    (TSN, Wang et al. 2016, section 3.1; the sampling of Something-Something fine-tuning.) With
    `rng` uniform in each segment, without it the middle. A clip of fewer frames repeats some.
    """
    within = np.full(length, 0.5) if rng is None else rng.random(length)
    return np.minimum(((np.arange(length) + within) * frames / length).astype(np.int64), frames - 1)
