"""What every mask is: which tubes of a clip are hidden from the encoder.

A clip is a grid of t x h x w space-time tubes, numbered N = t h w in that order (time slowest). A
mask is bool (N,), true where hidden, and hides the same number of tubes in every clip, so that
batches stack. It is a pure function of its arguments and the sample's random numbers.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Gt, Lt

from pipeline.errors import UserError
from pipeline.method import motion

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


def random_subset(n: int, ratio: float, grid: Grid, rng: np.random.Generator) -> BoolArray:
    """Return bool (n,) with the masked share true, every subset equally likely."""
    hidden = np.zeros(n, dtype=np.bool_)
    hidden[np.argsort(rng.random(n), kind="stable")[: hidden_count(n, ratio, grid)]] = True
    return hidden


def hidden_count(n: int, ratio: float, grid: Grid) -> int:
    """Return int(ratio n). Raises UserError where that is none or all of the n tubes."""
    count = int(ratio * n)
    if not 0 < count < n:
        shape = "x".join(map(str, grid))
        raise UserError(
            f"mask ratio {ratio} hides {count} of {n} tubes (the clip is {shape} tubes)",
            remedy="change objective.mask.ratio, or use smaller tubes (model.tube)",
        )
    return count
