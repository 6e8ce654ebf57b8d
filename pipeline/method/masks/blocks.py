"""Masks made of blocks, several kinds of them for one clip (V-JEPA, Bardes et al. 2024, section 3).

Of each kind, a few blocks of one size are put at random places; their union is predicted, and the
encoder sees the rest. All clips of a step share the sizes. How many tubes that leaves differs from
clip to clip: the training loop cuts masks to the least of the step (`tubes.cut`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le, Len

from pipeline.errors import UserError
from pipeline.method.masks.base import PREDICTED, VISIBLE, Grid, Mask, MaskArray, RoleArray
from pipeline.method.motion import Frames

Share = Annotated[float, Gt(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Draws = tuple[float, float, float]  # in [0, 1): they size the blocks of a step
TRIALS = 1000  # to leave the encoder anything


@dataclass(frozen=True)
class Blocks:
    """One kind of mask; each range is drawn from once in a step."""

    count: Annotated[int, Gt(0)]  # blocks
    area: tuple[Share, Share]  # of a block, of the frame
    length: tuple[Share, Share] = (1.0, 1.0)  # of a block, of the clip
    aspect: tuple[Positive, Positive] = (0.75, 1.5)  # height to width
    seen_length: Share = 1.0  # of the clip; of later times the encoder sees nothing
    most_visible: Annotated[int, Gt(0)] | None = None  # tubes; null: all that no block covers

    def size(self, grid: Grid, draws: Draws) -> Grid:
        """The size of a block in tubes: time, height, width."""
        length, area, aspect = (
            low + draw * (high - low)
            for draw, (low, high) in zip(draws, (self.length, self.area, self.aspect), strict=True)
        )
        covered = int(grid[1] * grid[2] * area)
        height, width = round(math.sqrt(covered * aspect)), round(math.sqrt(covered / aspect))
        return max(1, int(grid[0] * length)), min(height, grid[1]), min(width, grid[2])

    def mask(self, grid: Grid, size: Grid, places: np.ndarray) -> RoleArray:
        """The mask, uint8 (N,), of blocks at `places` (count,3): first row, column and time."""
        covered = np.zeros(grid, np.bool_)
        length, height, width = size
        for row, column, time in places:
            covered[time : time + length, row : row + height, column : column + width] = True
        if self.seen_length < 1:
            covered[max(1, int(grid[0] * self.seen_length)) :] = True
        hidden = covered.ravel()
        mask = np.where(hidden, PREDICTED, VISIBLE).astype(np.uint8)
        if self.most_visible is not None:
            mask[np.flatnonzero(~hidden)[self.most_visible :]] = 0
        return mask

    def draw(self, grid: Grid, draws: Draws, rng: np.random.Generator) -> RoleArray:
        """Draw places until the encoder sees something."""
        size = self.size(grid, draws)
        free = np.array([grid[1] - size[1], grid[2] - size[2], grid[0] - size[0]]) + 1
        for _ in range(TRIALS):
            mask = self.mask(grid, size, (rng.random((self.count, 3)) * free).astype(int))
            if (mask & VISIBLE).any() and (mask & PREDICTED).any():
                return mask
        block, clip = ("x".join(map(str, shape)) for shape in (size, grid))
        raise UserError(
            f"{self.count} blocks of {block} tubes leave none of {clip} visible, or hide none",
            place="objective.mask.blocks",
            remedy="ask for fewer or smaller blocks, or use smaller tubes (model.tube)",
        )


@dataclass(frozen=True)
class BlockMask(Mask):
    """One mask of each kind of blocks for every clip."""

    blocks: Annotated[tuple[Blocks, ...], Len(1)]  # a kind of mask each
    kind: Literal["blocks"] = "blocks"
    equal_counts: ClassVar[bool] = False

    @property
    def kinds(self) -> int:
        return len(self.blocks)

    def at_step(self, rng: np.random.Generator) -> Mask:
        return _SizedBlocks(self.blocks, draws=_draws(rng))

    def draw(self, grid: Grid, rng: np.random.Generator, frames: Frames | None = None) -> MaskArray:
        return self.at_step(rng).draw(grid, rng, frames)


@dataclass(frozen=True)
class _SizedBlocks(BlockMask):
    """Blocks of a step: of every kind, the size is made of the same three draws."""

    draws: Draws = (0.0, 0.0, 0.0)

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: Frames | None = None,  # noqa: ARG002
    ) -> MaskArray:
        masks = [each.draw(grid, self.draws, rng) for each in self.blocks]
        return np.stack(masks).astype(np.uint8)


def _draws(rng: np.random.Generator) -> Draws:
    time, area, aspect = rng.random(3)
    return time, area, aspect
