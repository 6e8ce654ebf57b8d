"""The decoder: from visible tokens to predictions of other tubes (paper, section 3.1)."""

from __future__ import annotations

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
