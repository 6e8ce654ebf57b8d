"""A moving average of the encoder itself as the target network (V-JEPA, Bardes et al. 2024).

It sees the whole clip. Its features are normalised over their channels, so that they cannot shrink
to nothing. Engines move it after each step (`training.engines`), by the momentum of that step.

Shapes: B clips, N tubes of a clip, M predicted ones, P pixel values of a tube, O the width.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.method.targets.network import HoldingTarget
from pipeline.method.tubes import gather
from pipeline.method.vit import Encoder

STABILISER = 1e-5  # epsilon of the last normalisation: PyTorch's own


class AveragedEncoder(HoldingTarget):
    """Features of the averaged encoder: it is whole in every process."""

    def __init__(self, *, load: bool = True) -> None:
        super().__init__()
        self.load = load  # else only its width is known

    def follow(self, encoder: Encoder) -> None:
        self.width = encoder.width
        if self.load:
            self._held = [copy.deepcopy(encoder).eval().requires_grad_(False)]

    @property
    def encoder(self) -> Encoder:
        """The average."""
        if not self._held:
            raise RuntimeError("this model was built without its averaged encoder")
        held: Encoder = self._held[0]
        return held

    @property
    def weights(self) -> dict[str, Tensor]:
        """Its weights, under the names of the model's encoder; not copies."""
        named = self.encoder.named_parameters(prefix="encoder")
        return {name: parameter.detach() for name, parameter in named}

    @torch.no_grad()
    def forward(self, tubes: Tensor, predicted: Tensor) -> Tensor:
        """Targets B,M,O of the predicted tubes, float32, of zero mean and unit variance."""
        features = self.encoder.encode(tubes).float()
        return gather(functional.layer_norm(features, (self.width,), eps=STABILISER), predicted)
