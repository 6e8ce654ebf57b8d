"""What every target network has.

Letters: B clips, N tubes of a clip, M masked ones, P pixel values of a tube, O values of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor, nn


class Operations(NamedTuple):
    """Floating-point operations of one part of the model, for one clip."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward


class TargetNetwork(nn.Module):
    """Maps tubes B,N,P and the numbers B,M of the masked ones to their targets B,M,O."""

    width: int  # O
    frozen = False  # whether its weights are another's, and stay as they are
    digest = ""  # of a frozen network's weights, once known

    def begin(self, tubes: Tensor, masked: Tensor) -> Callable[[], Tensor]:
        """Begin with the targets of `forward`; what is returned waits for them and gives them."""
        return lambda: cast(Tensor, self(tubes, masked))

    def operations(self, masked: int) -> Operations:  # noqa: ARG002
        """What the targets of `masked` tubes of one clip cost in a training step."""
        return Operations(0, 0)
