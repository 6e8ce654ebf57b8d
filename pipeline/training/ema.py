"""An exponential moving average of the weights.

After step t: average <- d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)), so
that the beginning is soon forgotten (as TensorFlow's ExponentialMovingAverage and timm's
ModelEmaV3 warm up). It is kept where the weights are, in the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """The average of what `update` is given, by name."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.shadows: dict[str, Tensor] = {}
        self.steps = 0

    def reset(self, weights: Mapping[str, Tensor]) -> None:
        """Start at these weights."""
        self.shadows = {name: weight.clone() for name, weight in weights.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Move towards the weights after one more step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(list(self.shadows.values()), list(weights.values()), None)
