"""The decoder: from visible tokens to predictions of other tubes (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.method.vit import (
    NORM_EPS,
    TransformerSize,
    blocks,
    initialise,
    initialise_linear,
    run_blocks,
)


class Decoder(nn.Module):
    """A narrow transformer over all tokens, and a linear head on those to predict."""

    def __init__(self, size: TransformerSize, outputs: int) -> None:
        super().__init__()
        self.recompute = size.recompute
        self.blocks = blocks(size)
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.head = nn.Linear(size.width, outputs)
        initialise_linear(self.head)
        initialise(self, size)

    def forward(self, tokens: Tensor, predicted: int) -> Tensor:
        """Predictions B,M,O for the last `predicted` = M of the tokens B,N,D."""
        tokens = run_blocks(self.blocks, tokens, self.recompute)
        predictions: Tensor = self.head(self.norm(tokens[:, -predicted:]))
        return predictions


class AlignedHeads(nn.Module):
    """A linear map and a norm for each layer of a target, on visible tokens (UMT, Li et al. 2023).

    It stands in the decoder's place, without blocks.
    """

    def __init__(self, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.recompute = False
        self.blocks = nn.ModuleList()
        each = outputs // layers
        self.heads = nn.ModuleList(nn.Linear(width, each) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(each, eps=NORM_EPS) for _ in range(layers))
        self.apply(initialise_linear)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Predictions B,V,O, all layers side by side, from features B,V,D, one for each layer."""
        heads = zip(features, self.heads, self.norms, strict=True)
        return torch.cat([norm(head(each)) for each, head, norm in heads], dim=-1)
