"""Fixed sinusoid positions of tokens (Vaswani et al. 2017, section 3.5), as VideoMAE uses them."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoid_positions(count: int, width: int) -> Tensor:
    """Positions N,D (float32) of `count` tokens, numbered along the whole clip.

    position[n, 2i] = sin(n / 10000^(2i / D)), position[n, 2i+1] = cos of the same angle;
    computed in float64 and rounded once.
    """
    pairs = torch.arange(width, dtype=torch.float64) // 2
    rates = torch.pow(torch.tensor(10000.0, dtype=torch.float64), -2 * pairs / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    even = torch.arange(width) % 2 == 0
    return torch.where(even, angles.sin(), angles.cos()).float()
