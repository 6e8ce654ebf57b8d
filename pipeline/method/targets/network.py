"""What every target network has.

Shapes: B clips, N tubes of a clip, M predicted ones, P pixel values of a tube, O of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from pipeline.method.frozen_network import Holding

if TYPE_CHECKING:
    from pipeline.method.vit import Encoder


class TargetNetwork(nn.Module):
    """Maps tubes B,N,P and the numbers B,M of the predicted ones to their targets B,M,O."""

    width: int  # O
    layers = 1  # of features of a network: so many lie side by side in O
    frozen = False  # whether its weights are another's, and stay as they are
    digest = ""  # of a frozen network's weights, once known

    def begin(self, tubes: Tensor, masked: Tensor) -> Callable[[], Tensor]:
        """Begin with the targets of `forward`; what is returned waits for them and gives them."""
        return lambda: cast(Tensor, self(tubes, masked))

    def follow(self, encoder: Encoder) -> None:
        """Begin at the weights that the model's encoder has now, where the target is made of it."""


class HoldingTarget(Holding, TargetNetwork):
    """A target with a network that is held outside of PyTorch's registry of modules."""
