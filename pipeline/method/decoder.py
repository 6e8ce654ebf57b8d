"""The decoder: from visible tokens to predictions for the masked tubes (paper, section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.configuration.schema import Model
from pipeline.method.vit import NORM_EPS, blocks, initialise_linear, run_blocks


class Decoder(nn.Module):
    """A narrow transformer over all tokens, and a linear head on the masked ones."""

    def __init__(self, model: Model, outputs: int) -> None:
        super().__init__()
        self.recompute = model.activation_checkpointing
        width = model.decoder_width
        self.blocks = blocks(width, model.decoder_depth, model.decoder_heads, model.mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, outputs)
        initialise_linear(self.head)

    def forward(self, tokens: Tensor, masked: int) -> Tensor:
        """Predictions B,M,O for the last `masked` = M of the tokens B,N,D."""
        tokens = run_blocks(self.blocks, tokens, self.recompute)
        predictions: Tensor = self.head(self.norm(tokens[:, -masked:]))
        return predictions
