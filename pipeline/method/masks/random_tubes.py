"""Tubes anywhere in the clip (MAE-ST, Feichtenhofer et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.method import motion
from pipeline.method.masks.base import BoolArray, Grid, Mask, Ratio, random_subset


@dataclass(frozen=True)
class RandomMask(Mask):
    """int(ratio N) tubes anywhere in the clip."""

    ratio: Ratio  # of the tubes that are masked
    kind: Literal["random"] = "random"

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> BoolArray:
        return random_subset(math.prod(grid), self.ratio, grid, rng)
