"""Targets that are made of a tube's own pixels (paper, section 3.2).

Shapes: B clips, N tubes of a clip, M masked ones, P pixel values of a tube, O values of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.method.pixels import MEAN, STD, by_channel
from pipeline.method.targets import AUTHORS_STABILISER, PixelTarget
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import CHANNELS, TubeGrid, gather

STABILISER = 1e-6  # added to a deviation of features, to a variance over a whole tube (MAE-ST)


def normalised_pixels(tubes: Tensor, stabiliser: float = AUTHORS_STABILISER) -> Tensor:
    """Normalise tubes ...,P to zero mean and unit (unbiased) variance per tube and channel.

    `tubes` hold pixels that ImageNet's mean and deviation have normalised. The targets are those
    of pixels from 0 to 1, x - mean over deviation + stabiliser: undoing ImageNet's mean cancels
    here, undoing its deviation rescales the stabiliser, so neither is carried out. The result is
    in float32.
    """
    values = tubes.float().reshape(*tubes.shape[:-1], -1, CHANNELS)
    deviation = by_channel(STD, values.device)
    # Two passes by hand: `torch.var_mean` over a strided axis takes six times as long.
    centred = values - values.mean(dim=-2, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-2, keepdim=True)
    normalised = centred.div_(length / (values.shape[-2] - 1) ** 0.5 + stabiliser / deviation)
    return normalised.flatten(-2)


class Pixels(TargetNetwork):
    """The pixels themselves, normalised as `PixelTarget` says: O = P, or of one frame of a tube."""

    frame: Tensor

    def __init__(self, grid: TubeGrid, settings: PixelTarget) -> None:
        super().__init__()
        self.settings = settings
        self.places = grid.height * grid.width  # tubes of one time
        length = grid.tube[0]
        self.width = grid.pixels if settings.frames == "all" else grid.pixels // length
        # Evenly spaced from the first frame of the clip to the last: t of them, one in each tube.
        spaced = torch.linspace(0, length * grid.frames - 1, grid.frames).long()
        self.register_buffer("frame", spaced % length, persistent=False)

    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,O of the masked tubes."""
        values = self.chosen(gather(tubes, masked), masked)
        if self.settings.normalise == "channel":
            return normalised_pixels(values, self.settings.stabiliser)
        if self.settings.normalise == "tube":
            return standardised(values.float())
        std, mean = (by_channel(constants, values.device) for constants in (STD, MEAN))
        return (_channels(values.float()) * std + mean).flatten(-2)

    def chosen(self, values: Tensor, masked: Tensor) -> Tensor:
        """Of tubes' values B,M,P those that are predicted, B,M,O."""
        if self.settings.frames == "all":
            return values
        frames = values.view(*masked.shape, -1, self.width)
        which = self.frame[masked // self.places][..., None, None]
        return frames.gather(2, which.expand(-1, -1, 1, self.width)).squeeze(2)

    def restored(self, predicted: Tensor, values: Tensor, masked: Tensor) -> Tensor:
        """Tubes B,M,P as predictions B,M,O have them: for pictures.

        Each has the mean and the deviation of the tube's own `values` B,M,P. Where one frame of a
        tube is predicted, the tube has it in place of all.
        """
        known = self.chosen(values, masked)
        if self.settings.normalise == "channel":
            known, predicted = _channels(known), _channels(predicted)
            variance, mean = torch.var_mean(known, dim=-2, keepdim=True)
            stabiliser = self.settings.stabiliser / by_channel(STD, values.device)
            predicted = (predicted * (variance.sqrt() + stabiliser) + mean).flatten(-2)
        elif self.settings.normalise == "tube":
            variance, mean = torch.var_mean(known, dim=-1, keepdim=True)
            predicted = predicted * variance.sqrt() + mean
        else:
            std, mean = (by_channel(constants, values.device) for constants in (STD, MEAN))
            predicted = ((_channels(predicted) - mean) / std).flatten(-2)
        return predicted.repeat(1, 1, values.shape[-1] // self.width)


def _channels(values: Tensor) -> Tensor:
    """Values ...,P as ...,pixels,channels."""
    return values.reshape(*values.shape[:-1], -1, CHANNELS)


def standardised(values: Tensor) -> Tensor:
    """Normalise values ...,P to zero mean and unit (unbiased) variance, as MAE-ST does."""
    variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
    return (values - mean) / (variance + STABILISER).sqrt()


class MlpProjection(TargetNetwork):
    """Linear maps with GELU between them on a tube's normalised pixels: P -> hidden -> O.

    Weights start as PyTorch's linear maps do (as in the public code).
    """

    def __init__(
        self, pixels: int, hidden: Sequence[int], width: int, stabiliser: float = AUTHORS_STABILISER
    ) -> None:
        super().__init__()
        self.width = width
        self.stabiliser = stabiliser
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((pixels, *hidden, width)):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,O of the masked tubes."""
        targets: Tensor = self.network(normalised_pixels(gather(tubes, masked), self.stabiliser))
        return targets
