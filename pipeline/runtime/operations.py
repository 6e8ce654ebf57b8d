"""How many operations a network needs: those of its matrix products, as PyTorch counts them.

They are counted on the meta device, where nothing is computed. A multiplication and an addition are
two operations.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


@contextlib.contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count what is asked of networks meanwhile.

    Fused attention makes its scores again when going back, which is not the model's need: here
    attention is plain.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def forward_operations(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count the operations of a forward pass for an input of this shape, in evaluation mode."""
    on_meta = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), counting() as counter:
        on_meta(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops())
