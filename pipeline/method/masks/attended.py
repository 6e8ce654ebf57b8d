"""What a frozen network attends to stays visible (UMT, Li et al. 2023).

The model decides by the attention of its target's network; the loader draws random numbers alone.

Shapes: B clips, N tubes of a clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pipeline.method import motion
from pipeline.method.masks.base import Grid, Mask, Ratio, hidden_count

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.method.tubes import TubeSplit


@dataclass(frozen=True)
class AttentionMask(Mask):
    """Of the tubes of each time int(ratio h w) are hidden, the others drawn by their attention.

    That is without replacement: those of the largest attention / exponential variate.
    """

    ratio: Ratio  # of the tubes that are hidden
    kind: Literal["attention"] = "attention"
    in_model = True
    by_attention = True

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> npt.NDArray[np.float32]:
        """Return exponential variates, float32 (N,), by which `select` draws."""
        hidden_count(grid[1] * grid[2], self.ratio, grid)  # refuses ratios of none or all
        drawn = rng.standard_exponential(math.prod(grid)).astype(np.float32)
        return np.maximum(drawn, np.finfo(np.float32).tiny)

    def select(self, attention: Tensor, noise: Tensor, grid: Grid) -> TubeSplit:
        """Split tubes by the attention B,N that each gets and exponential variates B,N."""
        import torch

        from pipeline.method.tubes import TubeSplit

        length, places = grid[0], grid[1] * grid[2]
        visible = places - hidden_count(places, self.ratio, grid)
        scores = (attention / noise).view(-1, length, places)
        order = scores.argsort(dim=2, descending=True, stable=True)
        first = torch.arange(length, device=order.device)[:, None] * places
        parts = order.tensor_split((visible,), dim=2)
        return TubeSplit(*((part.sort(2).values + first).flatten(1) for part in parts))
