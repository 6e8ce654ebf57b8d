"""Which tubes of a clip are hidden from the encoder.

A clip is a grid of t x h x w space-time tubes, numbered N = t h w in that order (time slowest). A
mask is bool (N,), true where hidden, and hides the same number of tubes in every clip, so that
batches stack. It is a pure function of its arguments and the sample's random numbers.

`motion` is of this project: MGM (Fan et al. 2023) and MGMAE (Huang et al. 2023) showed that masks
had better follow motion, and docs/notes/motion-masking.md says what was taken from either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Lt

from pipeline.errors import UserError
from pipeline.method import motion
from pipeline.method.registry import Registry

BoolArray = npt.NDArray[np.bool_]
Grid = tuple[int, int, int]  # tubes in time, height and width
Ratio = Annotated[float, Gt(0), Lt(1)]


class Mask(Protocol):
    """Which tubes are hidden."""

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> BoolArray:
        """Return a mask, bool (N,), over a `grid` of (t, h, w) tubes.

        `frames` uint8 (T,H,W,3) are what the model sees of the clip. Raises UserError where the
        mask would hide none or all.
        """

    def count(self, grid: Grid) -> int:
        """Return how many of the N tubes are hidden: the same in every clip."""


@dataclass(frozen=True)
class TubeMask:
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
        return np.tile(_subset(height * width, self.ratio, grid, rng), length)

    def count(self, grid: Grid) -> int:
        return grid[0] * _count(grid[1] * grid[2], self.ratio, grid)


@dataclass(frozen=True)
class RandomMask:
    """int(ratio N) tubes anywhere in the clip."""

    ratio: Ratio  # of the tubes that are masked
    kind: Literal["random"] = "random"

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> BoolArray:
        return _subset(math.prod(grid), self.ratio, grid, rng)

    def count(self, grid: Grid) -> int:
        return _count(math.prod(grid), self.ratio, grid)


@dataclass(frozen=True)
class MotionMask:
    """int(ratio h w) tubes of each of the t; tubes in which more moves are more often visible."""

    ratio: Ratio  # of the tubes that are masked
    share: Annotated[float, Ge(0), Lt(1)]  # of the visible tubes that follow motion
    # grey levels: slopes well below it are too flat to tell motion
    contrast: Annotated[float, Gt(0)]
    kind: Literal["motion"] = "motion"

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> BoolArray:
        if frames is None:
            raise ValueError("a mask that follows motion needs the clip's frames")
        length, height, width = grid
        speeds = motion.speeds(frames, grid, self.contrast).reshape(length, height * width)
        return _following(speeds, self.share, _count(height * width, self.ratio, grid), rng)

    def count(self, grid: Grid) -> int:
        return grid[0] * _count(grid[1] * grid[2], self.ratio, grid)


MASKS: Registry = {"tube": TubeMask, "random": RandomMask, "motion": MotionMask}


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
    masked = np.ones(speeds.shape, dtype=np.bool_)
    visible = np.argsort(rings, axis=1, kind="stable")[:, : speeds.shape[1] - hidden]
    np.put_along_axis(masked, visible, False, axis=1)
    return masked.ravel()


def _subset(n: int, ratio: float, grid: Grid, rng: np.random.Generator) -> BoolArray:
    """Return bool (n,) with the masked share true, every subset equally likely."""
    hidden = np.zeros(n, dtype=np.bool_)
    hidden[np.argsort(rng.random(n), kind="stable")[: _count(n, ratio, grid)]] = True
    return hidden


def _count(n: int, ratio: float, grid: Grid) -> int:
    count = int(ratio * n)
    if not 0 < count < n:
        shape = "x".join(map(str, grid))
        raise UserError(
            f"mask ratio {ratio} hides {count} of {n} tubes (the clip is {shape} tubes)",
            remedy="change objective.mask.ratio, or use smaller tubes (model.tube)",
        )
    return count
