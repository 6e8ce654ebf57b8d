"""Targets that are made of a tube's own pixels (paper, section 3.2).

Shapes: B clips, N tubes of a clip, M masked ones, P pixel values of a tube, O values of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.method.pixels import STD, by_channel
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import CHANNELS, gather

STABILISER = 1e-6  # added to a deviation, in units of pixels from 0 to 1 (or of features)


def normalised_pixels(tubes: Tensor) -> Tensor:
    """Normalise tubes ...,P to zero mean and unit (unbiased) variance per tube and channel.

    `tubes` hold pixels that ImageNet's mean and deviation have normalised. The targets are those
    of pixels from 0 to 1: undoing the mean cancels here, undoing the deviation rescales the
    stabiliser, so neither is carried out. The result is in float32.
    """
    values = tubes.float().reshape(*tubes.shape[:-1], -1, CHANNELS)
    deviation = by_channel(STD, values.device)
    # Two passes by hand: `torch.var_mean` over a strided axis takes six times as long.
    centred = values - values.mean(dim=-2, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-2, keepdim=True)
    normalised = centred.div_(length / (values.shape[-2] - 1) ** 0.5 + STABILISER / deviation)
    return normalised.flatten(-2)


class NormalisedPixels(TargetNetwork):
    """The normalised pixels themselves: O = P."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.width = pixels

    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,P of the masked tubes."""
        return normalised_pixels(gather(tubes, masked))


class MlpProjection(TargetNetwork):
    """Linear maps with GELU between them on a tube's normalised pixels: P -> hidden -> O.

    Weights start as PyTorch's linear maps do (as in the public code).
    """

    def __init__(self, pixels: int, hidden: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((pixels, *hidden, width)):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,O of the masked tubes."""
        targets: Tensor = self.network(normalised_pixels(gather(tubes, masked)))
        return targets
