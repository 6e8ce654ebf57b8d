"""How pasted objects move through a clip (SMILE, Thoker et al. 2025; Tubelet-Contrast before it).

An object's centre follows a smoothed random walk of points; its size and its angle change between
key frames. What is random is drawn apart from what is computed of it, and all of it from the
sample's own random numbers.

Shapes: K objects, T frames, G gaps between G + 1 key frames. Places and sizes are x, y in pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.data.load.order import randint

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
PUBLISHED_SIZE = 224  # pixels of a side, of SMILE's frames


@dataclass(frozen=True)
class Trajectories:
    """Where K objects are in T frames."""

    boxes: FloatArray  # K,T,4: left, top, right, bottom in pixels; may reach out of the frame
    angles: FloatArray  # K,T, degrees


@dataclass(frozen=True)
class TrajectorySettings:
    """How large objects are and how fast they change; the values are SMILE's, for 224 pixels."""

    scales: tuple[float, ...] = (32, 48, 56, 64, 96, 128)  # pixels: root of an object's area
    ratios: tuple[float, ...] = (0.5, 0.67, 0.75, 1, 1.33, 1.5, 2)  # width / height
    jitter: float = 0.18  # of the logarithm of either side
    points: int = 48  # of a random walk
    sigma: float = 8  # points; of the filter that smooths it
    reach: tuple[int, int] = (40, 180)  # pixels: how far an object moves, at least and at most
    key_frames: tuple[float, ...] = (0.5, 0.3, 0.2)  # how probable 0, 1, 2, ... inner ones are
    size_speed: float = 0.025  # at most; of the logarithm of either side, a frame
    turn_speed: float = 6  # degrees a frame, at most
    interpolation: tuple[float, ...] = (0.7, 0.15, 0.15)  # linear, accelerating, decelerating

    @classmethod
    def for_size(cls, size: int) -> TrajectorySettings:
        """The same for frames of `size` x `size` pixels: objects are as large a part of them."""
        given, factor = cls(), size / PUBLISHED_SIZE
        least, most = given.reach
        return replace(
            given,
            scales=tuple(scale * factor for scale in given.scales),
            reach=(round(least * factor), round(most * factor)),
        )


def draw_trajectories(
    settings: TrajectorySettings, objects: int, frames: int, size: int, rng: np.random.Generator
) -> Trajectories:
    """Draw how `objects` = K move through `frames` = T frames of `size` x `size` pixels."""
    s = settings
    index = np.array([randint(rng, len(s.scales) * len(s.ratios)) for _ in range(objects)])
    shapes = box_shapes(s, index, _symmetric(rng, (objects, 2), s.jitter), size)
    points = rng.random((objects, s.points, 2))
    least, most = (min(bound, size - 1) for bound in s.reach)
    scaling = np.array([least + randint(rng, most - least + 1) for _ in range(objects)])
    shift = (rng.random((objects, 2)) * (size - scaling[:, None])).astype(np.int64)
    places = centres(points, scaling, shift, frames, size, s.sigma)
    keys, kinds = draw_key_frames(s, frames, rng)
    speeds = _symmetric(rng, (len(kinds), objects, 2), s.size_speed)
    sizes = sizes_of(shapes, keys, speeds * np.diff(keys)[:, None, None], kinds)
    keys, kinds = draw_key_frames(s, frames, rng)
    turns = _symmetric(rng, (len(kinds), objects, 1), s.turn_speed)
    angles = angles_of(keys, turns * np.diff(keys)[:, None, None], kinds)
    return Trajectories(boxes_of(places, sizes), angles)


def box_shapes(
    settings: TrajectorySettings, index: IntArray, jitter: FloatArray, size: int
) -> FloatArray:
    """Return widths and heights (K,2) of anchors `index` (K,), each side times exp(jitter) (K,2).

    Anchors are all scales of the first ratio, then those of the second, and so on.
    """
    root = np.sqrt(np.repeat(np.asarray(settings.ratios, np.float32), len(settings.scales)))
    scale = np.tile(np.asarray(settings.scales, np.float32), len(settings.ratios))
    anchors = np.stack((scale * root, scale / root), axis=1)  # float32, as in SMILE's own code
    shapes: FloatArray = np.clip(anchors[index] * np.exp(jitter), 1, size - 1)
    return shapes


def centres(
    points: FloatArray, scaling: IntArray, shift: IntArray, frames: int, size: int, sigma: float
) -> IntArray:
    """Return centres (K,T,2) on smoothed walks through points (K,n,2), in whole pixels.

    Each walk is brought to `scaling` (K,) pixels in either direction and moved by `shift` (K,2).
    """
    from scipy.ndimage import gaussian_filter1d

    walk = gaussian_filter1d(points, sigma, axis=1, mode="reflect")
    walk = walk - walk.min(axis=1, keepdims=True)
    walk = walk / walk.max(axis=1, keepdims=True)
    walk = np.clip(walk * scaling[:, None, None] + shift[:, None], 0, size - 1)
    chosen = np.round(np.linspace(0, points.shape[1] - 1, frames)).astype(np.int64)
    whole: IntArray = walk[:, chosen].astype(np.int64)
    return whole


def draw_key_frames(
    settings: TrajectorySettings, frames: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Draw the numbers (G+1,) of key frames, and how it goes on from each to the next (G,)."""
    inner = _choice(settings.key_frames, rng)
    spread = int(frames / (inner + 1) / 3)
    places = [int(i * frames / (inner + 1)) for i in range(1, inner + 1)]
    moved = [place - spread + randint(rng, 2 * spread) if spread else place for place in places]
    kinds = [_choice(settings.interpolation, rng) for _ in range(inner + 1)]
    return np.array([0, *moved, frames - 1]), np.array(kinds)


def sizes_of(
    shapes: FloatArray, key_frames: IntArray, log_scales: FloatArray, kinds: IntArray
) -> FloatArray:
    """Return sizes (K,T,2): `shapes` (K,2), scaled by exp(`log_scales`) (G,K,2) gap after gap."""
    factors = np.exp(np.cumsum(log_scales, axis=0))
    values = np.concatenate((np.ones((1, *factors.shape[1:])), factors)) * shapes
    return interpolated(values, key_frames, kinds)


def angles_of(key_frames: IntArray, shifts: FloatArray, kinds: IntArray) -> FloatArray:
    """Return angles (K,T), which start at 0 and change by `shifts` (G,K,1) gap after gap."""
    sums = np.cumsum(shifts, axis=0)
    values = np.concatenate((np.zeros((1, *sums.shape[1:])), sums))
    return interpolated(values, key_frames, kinds)[..., 0]


def interpolated(values: FloatArray, key_frames: IntArray, kinds: IntArray) -> FloatArray:
    """Return values (K,T,c) of all frames, from those (G+1,K,c) of the key frames.

    From one to the next it goes evenly (kind 0), ever faster (1) or ever more slowly (2).
    """
    result = np.empty((values.shape[1], key_frames[-1] + 1, values.shape[2]))
    result[:, 0] = values[0]
    for gap, (start, end) in enumerate(itertools.pairwise(key_frames)):
        part = np.arange(1, end - start + 1) / (end - start)
        part = (part, part**2, 1 - (1 - part) ** 2)[kinds[gap]][None, :, None]
        before, after = values[gap][:, None], values[gap + 1][:, None]
        result[:, start + 1 : end + 1] = before + part * (after - before)
    return result


def boxes_of(places: IntArray, sizes: FloatArray) -> FloatArray:
    """Return boxes (K,T,4) of centres and sizes (K,T,2)."""
    return np.concatenate((places - sizes / 2, places + sizes / 2), axis=-1)


def _symmetric(rng: np.random.Generator, shape: tuple[int, ...], most: float) -> FloatArray:
    """Return numbers uniform between -`most` and `most`."""
    drawn: FloatArray = (2 * rng.random(shape) - 1) * most
    return drawn


def _choice(weights: tuple[float, ...], rng: np.random.Generator) -> int:
    """Return a number below len(weights), each as probable as its weight says."""
    bounds = np.cumsum(weights)
    return int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
