"""How much moves in each tube of what the model sees, by the codec's vectors of its clip.

Shapes: S frames of the stored clip, R and C rows and columns of its cells, T frames that the model
sees, t,h,w tubes of them.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.load.crops import Window
from pipeline.data.load.sampling import Indices
from pipeline.data.shards.motion_vectors import CELL, Vectors
from pipeline.method.motion import FloatArray, mean_of_steps

POINTS = 4  # of a tube's side, at which its motion is read


def speeds(
    vectors: Vectors, indices: Indices, window: Window, grid: tuple[int, int, int], *, flip: bool
) -> FloatArray:
    """Return the motion in each tube, float64 (t,h,w), from vectors (S,R,C,2) of the stored clip.

    From one of the frames `indices` (T,) to the next, vectors are added up, and their median over
    the picture is taken off: what moves with the camera stands still. A tube's motion is the mean
    length of that, over points of its part of `window` and the steps from and to its frames.
    """
    if len(indices) < 2:
        return np.zeros(grid)
    first = int(indices.min())
    since = np.cumsum(vectors[first + 1 : int(indices.max()) + 1], axis=0, dtype=np.int64)
    since = np.concatenate((np.zeros_like(since, shape=(1, *vectors.shape[1:])), since))
    steps = np.diff(since[indices - first], axis=0).astype(np.float64)  # T-1,R,C,2
    steps -= np.median(steps, axis=(1, 2), keepdims=True)
    lengths = np.hypot(steps[..., 0], steps[..., 1])
    rows = _cells(window.top, window.height, grid[1])
    columns = _cells(window.left, window.width, grid[2])
    columns = columns[::-1] if flip else columns
    points = lengths[:, rows[:, None], columns]
    shape = len(points), grid[1], POINTS, grid[2], POINTS
    return mean_of_steps(points.reshape(shape).mean(axis=(2, 4)), grid[0])


def _cells(start: int, length: int, tubes: int) -> Indices:
    """Return the cells at evenly spread points, `POINTS` of each tube, of `length` pixels."""
    count = tubes * POINTS
    return ((start + (np.arange(count) + 0.5) * length / count) // CELL).astype(np.int64)
