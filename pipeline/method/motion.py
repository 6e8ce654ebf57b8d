"""How much moves in each tube of a clip, and where to, from differences of neighbouring frames.

Where a surface of lightness I moves by v pixels from one frame to the next, its lightness changes
by v times its slope |grad I| (the optical flow constraint, Horn and Schunck 1981, equation 1). The
change divided by the slope is therefore a speed, whatever the texture. docs/notes/motion-masking.md
compares this with the codec's motion vectors.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)

CELLS = 4  # cells along a tube's side: differences are of cells' means, which evens noise out


def speeds(frames: Frames, grid: tuple[int, int, int], contrast: float) -> FloatArray:
    """Return the motion in each tube, float64 (t,h,w), from frames uint8 (T,H,W,3).

    Speed = sum |change of lightness| / sum (|slope| + contrast), in cells per frame, over the
    tube's area and the steps from and to its frames. `contrast`, in grey levels per cell, is the
    slope below which a change is taken for noise rather than for fast motion. A single frame, or
    frames that are all alike, give zeros.

    The sums are of integers, so that every machine gives the same.
    """
    length = len(frames)
    if length < 2:
        return np.zeros(grid)
    light, area = _cells(frames, grid)
    change = np.abs(light[1:] - light[:-1])
    middle = light[1:] + light[:-1]  # twice the mean of two frames
    slope = np.abs(np.diff(middle, axis=1, append=middle[:, -1:]))
    slope += np.abs(np.diff(middle, axis=2, append=middle[:, :, -1:]))
    floor = 4 * area * contrast  # a cell's sum of light is 4 area times its mean
    per_step = [_tubes(each, grid) for each in (change, slope)]
    count = change[0].size / (grid[1] * grid[2])  # cells of a tube in one frame
    changes, slopes = (_steps_of_tubes(each, grid[0]) for each in per_step)
    steps = _steps_of_tubes(np.ones((length - 1, 1, 1), dtype=np.int64), grid[0])
    result: FloatArray = changes / (slopes / 2 + steps * count * floor)
    return result


def flow(frames: Frames, grid: tuple[int, int, int], contrast: float) -> FloatArray:
    """Return the flow from each frame to the one before, float64 (T-1,2,H,W).

    In pixels (x, y): what is at a place in frame i + 1 is at that place + flow[i] in frame i. It is
    one vector for the area of each tube, the least-squares solution of the flow constraint there
    (Lucas and Kanade 1981), so motion of more than about a quarter of a tube is underestimated.
    `contrast`, in grey levels per cell, is the slope at which a flow is halved towards 0.
    """
    light, area = _cells(frames, grid)
    change = light[1:] - light[:-1]
    padded = np.pad(light[1:] + light[:-1], ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]  # four times the slope per cell
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    count = change[0].size // (grid[1] * grid[2])
    floor = 16 * count * (4 * area * contrast) ** 2
    xx, yy, xy, x, y = (
        _tubes(a * b, grid)
        for a, b in (
            (across, across),
            (down, down),
            (across, down),
            (4 * across, change),
            (4 * down, change),
        )
    )
    determinant = (xx + floor) * (yy + floor) - xy.astype(np.float64) ** 2
    vectors = np.stack(((yy + floor) * x - xy * y, (xx + floor) * y - xy * x), axis=1)
    sides = [side // n for side, n in zip(frames.shape[1:3], grid[1:], strict=True)]
    pixels = (
        vectors / determinant[:, None] * np.array([_cell(n) for n in sides[::-1]])[:, None, None]
    )
    result: FloatArray = pixels.repeat(sides[0], axis=2).repeat(sides[1], axis=3)
    return result


def _cells(frames: Frames, grid: tuple[int, int, int]) -> tuple[npt.NDArray[np.int64], int]:
    """Return four times the lightness summed over each cell, (T,y,x), and a cell's pixels."""
    length, height, width, _ = frames.shape
    down, across = _cell(height // grid[1]), _cell(width // grid[2])
    light = frames[..., 0].astype(np.uint16)
    light += frames[..., 1]
    light += frames[..., 1]
    light += frames[..., 2]  # at most 1,020
    rows = light.reshape(length, height // down, down, width).sum(axis=2, dtype=np.uint32)
    cells = rows.reshape(length, height // down, width // across, across).sum(axis=3)
    return cells.astype(np.int64), down * across


def _cell(side: int) -> int:
    """Return the largest divisor of a tube's side that leaves CELLS cells or more, else 1."""
    return next((size for size in range(side // CELLS, 0, -1) if side % size == 0), 1)


def _tubes(maps: npt.NDArray[np.int64], grid: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Sum maps (T-1,y,x) over the area of each tube: (T-1,h,w)."""
    steps, height, width = maps.shape
    shape = (steps, grid[1], height // grid[1], grid[2], width // grid[2])
    total: npt.NDArray[np.int64] = maps.reshape(shape).sum(axis=(2, 4))
    return total


def mean_of_steps(steps: FloatArray, tubes: int) -> FloatArray:
    """Mean of steps (T-1,h,w) between frames over the frames of tubes (t,h,w)."""
    counts = _steps_of_tubes(np.ones((len(steps), 1, 1)), tubes)
    result: FloatArray = _steps_of_tubes(steps, tubes) / counts
    return result


def _steps_of_tubes(steps: npt.NDArray[Number], tubes: int) -> npt.NDArray[Number]:
    """Sum steps (T-1,h,w) between frames to tubes (t,h,w): each frame has the ones beside it."""
    frames = np.zeros((len(steps) + 1, *steps.shape[1:]), dtype=steps.dtype)
    frames[:-1] += steps
    frames[1:] += steps
    total: npt.NDArray[Number] = frames.reshape(tubes, -1, *steps.shape[1:]).sum(axis=1)
    return total
