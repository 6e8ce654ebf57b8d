"""The decoder: from visible tokens to predictions for the masked tubes (paper, section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.method.vit import NORM_EPS, TransformerSize, blocks, initialise_linear, run_blocks


class Decoder(nn.Module):
    """A narrow transformer over all tokens, and a linear head on the masked ones."""

    def __init__(self, size: TransformerSize, outputs: int) -> None:
        super().__init__()
        self.recompute = size.recompute
        self.blocks = blocks(size)
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.head = nn.Linear(size.width, outputs)
        initialise_linear(self.head)

    def forward(self, tokens: Tensor, masked: int) -> Tensor:
        """Predictions B,M,O for the last `masked` = M of the tokens B,N,D."""
        tokens = run_blocks(self.blocks, tokens, self.recompute)
        predictions: Tensor = self.head(self.norm(tokens[:, -masked:]))
        return predictions
