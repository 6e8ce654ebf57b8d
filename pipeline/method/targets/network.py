"""What every target network has.

Shapes: B clips, N tubes of a clip, M masked ones, P pixel values of a tube, O values of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn


class TargetNetwork(nn.Module):
    """Maps tubes B,N,P and the numbers B,M of the masked ones to their targets B,M,O."""

    width: int  # O
    frozen = False  # whether its weights are another's, and stay as they are
    digest = ""  # of a frozen network's weights, once known

    def begin(self, tubes: Tensor, masked: Tensor) -> Callable[[], Tensor]:
        """Begin with the targets of `forward`; what is returned waits for them and gives them."""
        return lambda: cast(Tensor, self(tubes, masked))
