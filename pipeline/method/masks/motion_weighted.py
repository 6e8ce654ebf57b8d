"""Tubes in which more moves are more often visible.

This mask is of this project: MGM (Fan et al. 2023) and MGMAE (Huang et al. 2023) showed that masks
had better follow motion, and docs/notes/motion-masking.md says what was taken from either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from pipeline.method import motion
from pipeline.method.masks.base import (
    BoolArray,
    ClipFacts,
    Grid,
    Mask,
    Ratio,
    hidden_count,
    hide_all_but,
    least,
)


@dataclass(frozen=True)
class MotionMask(Mask):
    """int(ratio h w) tubes of each of the t; tubes in which more moves are more often visible."""

    ratio: Ratio  # of the tubes that are masked
    share: Annotated[float, Ge(0), Lt(1)]  # of the visible tubes that follow motion
    # grey levels: slopes well below it are too flat to tell motion
    contrast: Annotated[float, Gt(0)]
    # of motion: differences of the frames (`motion.speeds`), or the codec's motion vectors
    # (`data.shards.motion_vectors`), less those of the camera
    source: Literal["gradient", "codec"] = "gradient"
    kind: Literal["motion"] = "motion"

    @property
    def needs_vectors(self) -> bool:
        return self.source == "codec"

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> BoolArray:
        if frames is None:
            raise ValueError("a mask that follows motion needs the clip's frames")
        return self._draw(grid, rng, motion.speeds(frames, grid, self.contrast))

    def draw_knowing(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames, facts: ClipFacts
    ) -> BoolArray:
        if facts.speeds is None:
            return self.draw(grid, rng, frames)
        return self._draw(grid, rng, facts.speeds)

    def _draw(self, grid: Grid, rng: np.random.Generator, speeds: motion.FloatArray) -> BoolArray:
        n = grid[1] * grid[2]
        hidden = hidden_count(n, self.ratio, grid)
        return _following(speeds.reshape(grid[0], n), self.share, hidden, rng)


def _following(
    speeds: motion.FloatArray, share: float, hidden: int, rng: np.random.Generator
) -> BoolArray:
    """Return a mask, bool (t n,), that hides `hidden` of the n tubes at each of t times.

    Visible tubes are drawn without replacement with weights 1 - share + share v / mean(v), v being
    `speeds` (t,n) and the mean over one time: the first to ring of n exponential clocks (Efraimidis
    and Spirakis 2006). Every time has the same clocks, so the mask changes only where the motion
    does, and without motion it is a tube mask.
    """
    mean = speeds.mean(axis=1, keepdims=True)
    relative = np.divide(speeds, mean, out=np.ones_like(speeds), where=mean > 0)
    weights = 1 - share + share * relative
    rings = -np.log1p(-rng.random(speeds.shape[1])) / weights
    n = speeds.shape[1]
    return hide_all_but(least(rings, n - hidden), n).ravel()
