"""Checkpoints of AdaMAE (Bandara et al. 2023) under this project's names of tensors.

They are VideoMAE's but for the network that draws visible tubes, which is a part of the encoder
there and stands beside it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# Beginnings of their names, and ours.
NAMES = {
    "encoder.pos_embed_probs": "mask_network.positions",
    "encoder.get_token_probs.0.": "mask_network.block.",
    "encoder.get_token_probs.1.": "mask_network.logit.",
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors, or gradients of them, under our names; VideoMAE's stay as they are."""
    return {_ours(name): tensor for name, tensor in state.items()}


def _ours(name: str) -> str:
    for theirs, ours in NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
