"""Tubes anywhere in the clip, counted and ordered as MAE-ST has them (Feichtenhofer 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.method import motion
from pipeline.method.masks.base import (
    BoolArray,
    Grid,
    Mask,
    Ratio,
    hide_all_but,
    least,
    visible_count,
)


@dataclass(frozen=True)
class RandomVisibleMask(Mask):
    """int((1 - ratio) N) tubes are visible: those with the least of N random numbers.

    `random` hides int(ratio N) tubes, which may be one fewer.
    """

    ratio: Ratio  # of the tubes that are masked
    kind: Literal["random_visible"] = "random_visible"

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> BoolArray:
        n = math.prod(grid)
        return hide_all_but(least(rng.random(n), visible_count(n, self.ratio, grid)), n)
