"""Masks that are smooth in space and time: noise of a band of frequencies, cut at a level.

Structured-noise masks for masked video modelling ("Green3D"): the Gaussian noise of a clip is
filtered in space and time, by the difference of two Gaussian filters, and its largest values are
visible. ColorMAE (Hinojosa et al. 2024) has the same for images: band-pass noise is its green, low-
pass its red, high-pass its blue. docs/methods/structured-noise.md says what of this is unverified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge

from pipeline.method import motion
from pipeline.method.masks.base import (
    BoolArray,
    Grid,
    Mask,
    Ratio,
    hidden_count,
    hide_all_but,
    least,
)

FloatArray = npt.NDArray[np.float64]
Sigma = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class NoiseMask(Mask):
    """The tubes with the largest filtered noise are visible, equally many in every clip."""

    ratio: Ratio  # of the tubes that are masked
    space: tuple[Sigma, Sigma]  # deviations of the two filters, in tubes
    time: tuple[Sigma, Sigma]  # the same along time
    # equally many tubes visible at each time, not only in each clip
    each_time: bool = False
    kind: Literal["noise"] = "noise"

    def __post_init__(self) -> None:
        """Raise ValueError where the second filter is not the wider one."""
        if self.space[0] >= self.space[1] or self.time[0] > self.time[1]:
            raise ValueError(
                "the second of two filters has to be the wider one: "
                f"space {list(self.space)}, time {list(self.time)}"
            )

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> BoolArray:
        noise = band_pass(white_noise(grid, rng), self.space, self.time)
        groups = noise.reshape(grid[0] if self.each_time else 1, -1)
        n = groups.shape[1]
        visible = least(-groups, n - self._hidden(grid))
        return hide_all_but(visible, n).ravel()

    def _hidden(self, grid: Grid) -> int:
        """How many tubes of a clip, or of one time of it, are hidden."""
        return hidden_count(math.prod(grid[1:] if self.each_time else grid), self.ratio, grid)


def white_noise(grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return independent normal numbers (t,h,w), of uniform ones alone (Box and Muller 1958)."""
    radius, angle = rng.random((2, *grid))
    noise: FloatArray = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
    return noise


def band_pass(
    noise: FloatArray, space: tuple[float, float], time: tuple[float, float]
) -> FloatArray:
    """Return noise (t,h,w) after the narrower of two Gaussian filters minus after the wider one.

    A filter of deviation s multiplies a frequency of f cycles per tube by exp(-2 pi^2 s^2 f^2); 0
    leaves all as it is. The clip is taken to be periodic.
    """
    t, h, w = (np.fft.fftfreq(n) ** 2 for n in noise.shape)
    across = h[:, None] + w
    narrow, wide = (
        np.exp(-2 * np.pi**2 * (s**2 * across + u**2 * t[:, None, None]))
        for s, u in zip(space, time, strict=True)
    )
    filtered: FloatArray = np.fft.ifftn(np.fft.fftn(noise) * (narrow - wide)).real
    return filtered
