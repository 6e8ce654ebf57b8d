"""Dual masking (VideoMAE v2, Wang et al. 2023): the decoder is masked, too, by a running cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Lt

from pipeline.errors import UserError
from pipeline.method import motion
from pipeline.method.masks.base import PREDICTED, VISIBLE, BoolArray, Grid, Mask, MaskArray, Ratio
from pipeline.method.masks.tube import TubeMask


@dataclass(frozen=True)
class DualMask(Mask):
    """A tube mask for the encoder; of all tubes the decoder gets a share, wherever the encoder's.

    Which tubes both get differs between clips. VideoMAE v2 decodes these, too, without a loss.
    """

    ratio: Ratio  # of the tubes that are hidden from the encoder
    decoder_ratio: Annotated[float, Ge(0), Lt(1)]  # that the decoder does not get, in quarters
    # whether tubes that the encoder sees are decoded, too: as in VideoMAE v2, where no loss counts
    # them; without them a step is cheaper
    decode_visible: bool = True
    kind: Literal["dual"] = "dual"

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> MaskArray:
        hidden = TubeMask(self.ratio).draw(grid, rng)
        start = int(4 * rng.random())
        if int(4 * self.decoder_ratio) == 0:
            return hidden
        self._check(grid)
        decoded = ~running_cell(grid, self.decoder_ratio, start).ravel()
        if not self.decode_visible:
            decoded &= hidden  # in a turn of four times each place is decoded equally often
        return (VISIBLE * ~hidden + PREDICTED * decoded).astype(np.uint8)

    def _check(self, grid: Grid) -> None:
        if grid[1] % 2 or grid[2] % 2:
            raise UserError(
                f"a running cell of 2x2 tubes does not divide a frame of {grid[1]}x{grid[2]}",
                place="objective.mask",
                remedy="choose another mask, or a clip of an even number of tubes",
            )
        if not self.decode_visible and grid[0] % 4:
            raise UserError(
                f"clips of {grid[0]} tubes in time hold no whole number of turns of the cell, of 4 "
                "each, so their numbers of decoded tubes would differ",
                place="objective.mask.decode_visible",
                remedy="set it to true, or choose a clip of 4, 8, 12 ... tubes in time",
            )


def running_cell(grid: Grid, ratio: float, start: int) -> BoolArray:
    """Return which tubes are **not** decoded, bool (t,h w).

    Of each 2 x 2 places int(4 ratio) are left out, one further on at each time, beginning at
    `start` (0 to 3) of the four.
    """
    length, height, width = grid
    place = 2 * (np.arange(height) % 2)[:, None] + np.arange(width) % 2
    turn = place.ravel() + start + np.arange(length)[:, None] + 1
    left_out: BoolArray = turn % 4 < int(4 * ratio)
    return left_out
