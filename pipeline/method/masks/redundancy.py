"""Only tubes that change are seen or predicted, the others dropped (EVEREST, Hwang et al. 2024).

Which ones is decided by the model, on its device: a tube is as important as its embedding is far
from that of the same place one time before. The loader draws random numbers alone.

Shapes: B clips, N tubes of a clip, D width of an embedding, K kept tubes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pipeline.method import motion
from pipeline.method.masks.base import Grid, Mask, Ratio, visible_count

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.method.tubes import TubeSplit


@dataclass(frozen=True)
class RedundancyMask(Mask):
    """The int((1 - drop) N) most important tubes are kept, int((1 - ratio) N) of them visible.

    Which of the kept ones are visible is random; the others of them are predicted.
    """

    ratio: Ratio  # of all tubes that are not visible
    drop: Ratio  # of all tubes that are neither visible nor predicted
    kind: Literal["redundancy"] = "redundancy"
    in_model = True

    def __post_init__(self) -> None:
        """Raise ValueError where no tube would be predicted."""
        if self.drop >= self.ratio:
            raise ValueError(
                f"drop {self.drop} leaves none of the {self.ratio} that are not visible to predict"
            )

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> npt.NDArray[np.float32]:
        """Return random numbers, float32 (K,), by which `select` orders the kept tubes."""
        return rng.random(visible_count(math.prod(grid), self.drop, grid)).astype(np.float32)

    def select(self, embeddings: Tensor, noise: Tensor, grid: Grid) -> TubeSplit:
        """Split tubes by their embeddings B,N,D and random numbers B,K of `draw`."""
        from pipeline.method.tubes import TubeSplit

        order = noise.argsort(dim=1, stable=True)
        mixed = most_important(embeddings, noise.shape[1], grid).gather(1, order)
        visible = visible_count(math.prod(grid), self.ratio, grid)
        return TubeSplit(*(part.sort(1).values for part in mixed.tensor_split((visible,), dim=1)))


def most_important(embeddings: Tensor, count: int, grid: Grid) -> Tensor:
    """Return the indices B,K of the `count` most important tubes, the most important one first."""
    # The first time is as important as the second, place by place. On a CPU such ties are in
    # torch's own order, which recorded numbers have; elsewhere it might depend on the batch.
    stable = embeddings.device.type != "cpu"
    order = importance(embeddings, grid).argsort(dim=1, descending=True, stable=stable)
    return order[:, :count]


def importance(embeddings: Tensor, grid: Grid) -> Tensor:
    """Return how far embeddings B,N,D are from those of one time before: B,N, without gradient.

    At the first time, which has none before it, they are as at the second.
    """
    import torch

    if grid[0] < 2:
        raise ValueError("a selection of what changes needs clips of two tubes in time, or more")
    by_time = embeddings.detach().float().view(len(embeddings), grid[0], -1, embeddings.shape[2])
    distances = (by_time[:, 1:] - by_time[:, :-1]).norm(dim=-1)
    return torch.cat((distances[:, :1], distances), dim=1).flatten(1)
