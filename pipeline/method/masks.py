"""Which tubes of a clip are hidden from the encoder.

A clip is a grid of t x h x w space-time tubes, numbered N = t h w in that order (time slowest). A
mask is bool (N,), true where hidden, and hides the same number of tubes in every clip, so that
batches stack. It is a pure function of its arguments and the sample's random numbers.

`motion` is of this project: MGM (Fan et al. 2023) and MGMAE (Huang et al. 2023) showed that masks
had better follow motion, and docs/notes/motion-masking.md says what was taken from either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.configuration.schema import Mask
from pipeline.errors import UserError
from pipeline.method import motion

BoolArray = npt.NDArray[np.bool_]


def draw(
    mask: Mask,
    grid: tuple[int, int, int],
    rng: np.random.Generator,
    frames: motion.Frames | None = None,
) -> BoolArray:
    """Return a mask, bool (N,), over a `grid` of (t, h, w) tubes.

    tube:   one random h x w mask for all t (VideoMAE, Tong et al. 2022, section 3.3; the paper's
            section 4); hides int(ratio h w) tubes of each of the t.
    random: int(ratio N) tubes anywhere.
    motion: int(ratio h w) tubes of each of the t; tubes in which more moves are more often visible.
            `frames` uint8 (T,H,W,3) are what the model sees of the clip.

    Raises UserError where that hides none or all.
    """
    length, height, width = grid
    if mask.kind == "random":
        return _subset(length * height * width, mask, grid, rng)
    if mask.kind == "tube":
        return np.tile(_subset(height * width, mask, grid, rng), length)
    if frames is None or mask.motion is None:
        raise ValueError("a mask that follows motion needs the clip's frames and mask.motion")
    speeds = motion.speeds(frames, grid, mask.motion.contrast).reshape(length, height * width)
    return _following(speeds, mask.motion.share, _count(height * width, mask, grid), rng)


def masked_count(mask: Mask, grid: tuple[int, int, int]) -> int:
    """Return how many of the N tubes a mask hides: the same in every clip."""
    length, height, width = grid
    if mask.kind == "random":
        return _count(length * height * width, mask, grid)
    return length * _count(height * width, mask, grid)


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
