"""The running cell: which tubes VideoMAE v2's decoder gets (Wang et al. 2023, dual masking)."""

from __future__ import annotations

import numpy as np

from pipeline.method.masks.base import BoolArray, Grid


def running_cell(grid: Grid, ratio: float, start: int) -> BoolArray:
    """Return which tubes are **not** decoded, bool (t,h w).

    Of each 2 x 2 places int(4 ratio) are left out, one further on at each time, beginning at
    `start` (0 to 3) of the four.
    """
    length, height, width = grid
    place = 2 * (np.arange(height) % 2)[:, None] + np.arange(width) % 2
    turn = place.ravel() + start + np.arange(length)[:, None] + 1
    left_out: BoolArray = turn % 4 < int(4 * ratio)
    return left_out
