"""One mask for all times (VideoMAE, SIGMA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.method import motion
from pipeline.method.masks.base import BoolArray, Grid, Mask, Ratio, random_subset


@dataclass(frozen=True)
class TubeMask(Mask):
    """One random h x w mask for all t (VideoMAE, Tong et al. 2022, section 3.3; SIGMA, section 4).

    It hides int(ratio h w) tubes of each of the t.
    """

    ratio: Ratio  # of the tubes that are masked
    kind: Literal["tube"] = "tube"

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> BoolArray:
        length, height, width = grid
        return np.tile(random_subset(height * width, self.ratio, grid, rng), length)
