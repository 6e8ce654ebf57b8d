"""Which tubes of a clip are hidden from the encoder.

A clip is a grid of t x h x w space-time tubes, numbered N = t h w in that order (time slowest). A
mask is bool (N,), true where hidden, and hides the same number of tubes in every clip, so that
batches stack. It is a pure function of its arguments and the sample's random numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.configuration.schema import Mask
from pipeline.errors import UserError

BoolArray = npt.NDArray[np.bool_]


def draw(mask: Mask, grid: tuple[int, int, int], rng: np.random.Generator) -> BoolArray:
    """Return a mask, bool (N,), over a `grid` of (t, h, w) tubes.

    tube:   one random h x w mask for all t (VideoMAE, Tong et al. 2022, section 3.3; the paper's
            section 4); hides int(ratio h w) tubes of each of the t.
    random: int(ratio N) tubes anywhere.

    Raises UserError where that hides none or all.
    """
    frames, height, width = grid
    if mask.kind == "tube":
        return np.tile(_subset(height * width, mask, grid, rng), frames)
    return _subset(frames * height * width, mask, grid, rng)


def masked_count(mask: Mask, grid: tuple[int, int, int]) -> int:
    """Return how many of the N tubes a mask hides: the same in every clip."""
    frames, height, width = grid
    if mask.kind == "tube":
        return frames * _count(height * width, mask, grid)
    return _count(frames * height * width, mask, grid)


def _subset(n: int, mask: Mask, grid: tuple[int, int, int], rng: np.random.Generator) -> BoolArray:
    """Return bool (n,) with the masked share true, every subset equally likely."""
    hidden = np.zeros(n, dtype=np.bool_)
    hidden[np.argsort(rng.random(n), kind="stable")[: _count(n, mask, grid)]] = True
    return hidden


def _count(n: int, mask: Mask, grid: tuple[int, int, int]) -> int:
    count = int(mask.ratio * n)
    if not 0 < count < n:
        shape = "x".join(map(str, grid))
        raise UserError(
            f"mask ratio {mask.ratio} hides {count} of {n} tubes (the clip is {shape} tubes)",
            remedy="change objective.mask.ratio, or use smaller tubes (model.tube)",
        )
    return count
