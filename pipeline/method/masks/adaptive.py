"""Visible tubes that a network of the model learns to draw (AdaMAE, Bandara et al. 2023).

The network gives each tube of a clip a probability. Tubes are drawn by it without replacement; it
learns to make those more probable that are hard to predict, so that they are seen more often. The
loader draws random numbers alone.

Shapes: B clips, N tubes of a clip, M predicted ones, D width of an embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt

from pipeline.method import motion
from pipeline.method.masks.base import Grid, Mask, Ratio, visible_count

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.method.sampling import SamplingNetwork
    from pipeline.method.sigma import Prediction
    from pipeline.method.tubes import TubeSplit


@dataclass(frozen=True)
class AdaptiveMask(Mask):
    """int((1 - ratio) N) tubes are visible, drawn by probabilities that a network gives them."""

    ratio: Ratio  # of the tubes that are masked
    weight: Annotated[float, Ge(0)] = 1e-4  # of the network's loss, beside the objective's
    heads: Annotated[int, Gt(0)] = 8  # of the network's attention
    kind: Literal["adaptive"] = "adaptive"
    in_model = True
    learns = True

    def draw(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames | None = None,  # noqa: ARG002
    ) -> npt.NDArray[np.float32]:
        """Return exponential random numbers, float32 (N,), by which `select` draws."""
        visible_count(math.prod(grid), self.ratio, grid)  # raises, where none or all are visible
        return -np.log1p(-rng.random(math.prod(grid))).astype(np.float32)

    def network(self, grid: Grid, width: int) -> SamplingNetwork:
        from pipeline.method.sampling import SamplingNetwork

        return SamplingNetwork(math.prod(grid), width, self.heads)

    def select(self, embeddings: Tensor, noise: Tensor, grid: Grid) -> TubeSplit:
        """Split tubes by the network's logits B,N, which are given as `embeddings`.

        Visible are the tubes of the largest probability / exponential number, which draws them
        without replacement (Efraimidis and Spirakis 2006).
        """
        import torch

        from pipeline.method.tubes import TubeSplit

        probabilities = embeddings.float().softmax(dim=1)
        visible = visible_count(math.prod(grid), self.ratio, grid)
        order = (probabilities.detach() / noise).argsort(dim=1, descending=True, stable=True)
        seen, hidden = (part.sort(1).values for part in order.tensor_split((visible,), dim=1))
        # Sums and bounds are those of torch's categorical distribution, which the authors use.
        shares = probabilities / probabilities.sum(1, keepdim=True)
        epsilon = torch.finfo(shares.dtype).eps
        logarithms = shares.clamp(epsilon, 1 - epsilon).log()
        return TubeSplit(seen, hidden, log_probabilities=logarithms.gather(1, hidden))

    def loss(self, prediction: Prediction) -> Tensor | None:
        """Return -weight times the mean of log p x squared error, which has no gradient."""
        if prediction.log_probabilities is None:
            return None  # the mask was given
        difference = prediction.decoded.detach().float() - prediction.targets.detach().float()
        errors = difference.square().mean(-1)
        return -self.weight * (prediction.log_probabilities * errors).mean()
