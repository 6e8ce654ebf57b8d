"""Attention of V-JEPA 2.1, which the Transformers library lacks: its V-JEPA 2 rotates otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

TRAINED_SIZE = 256  # pixels of a side, to whose rows and columns those of other sizes are brought


class InterpolatedRotaryAttention(VJEPA2RopeAttention):
    """Attention with rotary positions of time, row and column as V-JEPA 2.1 has them.

    Rows and columns are brought to those of a picture of 256 pixels, and each pair of neighbouring
    channels turns by one angle; V-JEPA 2 turns the two channels of a pair by angles of their own.

    Shapes: B clips, H heads, N tubes, C channels of a head.
    """

    def get_position_ids(
        self, x: Tensor, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return time, row and column of each tube."""
        positions: tuple[Tensor, Tensor, Tensor]
        positions = super().get_position_ids(x, masks)  # type: ignore[no-untyped-call]
        times, rows, columns = positions
        patch: Any = self.config.patch_size  # one number: other patches are refused
        last = TRAINED_SIZE // patch - 1
        own_last = max(self.grid_size - 1, 1)
        return times, rows * last / own_last, columns * last / own_last

    def apply_rotary_embeddings(self, qk: Tensor, pos_ids: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return queries or keys B,H,N,C turned by their tubes' positions."""
        turned, begin = [], 0
        for positions, width in zip(pos_ids, (self.d_dim, self.h_dim, self.w_dim), strict=True):
            turned.append(_turned(qk[..., begin : begin + width], positions))
            begin += width
        return torch.cat([*turned, qk[..., begin:]], dim=-1)


def _turned(channels: Tensor, positions: Tensor) -> Tensor:
    """Return channels ...,N,C turned, pair by pair, by angles of the positions N."""
    width = channels.shape[-1]
    exponents = torch.arange(width // 2, device=channels.device) / (width / 2)
    angles = positions[..., None] / 10000**exponents
    sin, cos = (each.to(channels.dtype) for each in (angles.sin(), angles.cos()))
    first, second = channels.reshape(*channels.shape[:-1], -1, 2).unbind(-1)
    pairs = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(pairs, dim=-1).flatten(-2)


def use_in(encoder: Any) -> None:
    """Give all blocks of Transformers' V-JEPA 2 encoder the attention of V-JEPA 2.1, untrained."""
    config = encoder.config
    for layer in encoder.layer:
        layer.attention = InterpolatedRotaryAttention(
            config, config.hidden_size, config.num_attention_heads
        )
