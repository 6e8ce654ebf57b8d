"""What every target network has.

Shapes: B clips, N tubes of a clip, M predicted ones, P pixel values of a tube, O of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from torch import Tensor, nn

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


class HoldingTarget(TargetNetwork):
    """A target with a network that is held outside of PyTorch's registry of modules.

    It has no part in parameters, state dicts, gradients, engines or `train()`, but it moves with
    the model from device to device.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: Sequence[Any] = ()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        for network in self._held:
            if isinstance(network, nn.Module):
                network._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
