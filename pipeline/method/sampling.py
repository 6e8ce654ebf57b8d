"""The network by which a mask learns which tubes to show (AdaMAE, Bandara et al. 2023).

Shapes: B clips, N tubes of a clip, D width of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.method.vit import Block, initialise_linear

MLP_RATIO = 4.0
NORM_EPS = 1e-5  # PyTorch's own, as in the authors' code; the encoder's is another


class SamplingNetwork(nn.Module):
    """Positions of its own, which begin as zeros, one block without biases of q, k, v, one map."""

    def __init__(self, tubes: int, width: int, heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, tubes, width))
        self.block = Block(width, heads, MLP_RATIO, biases=False, eps=NORM_EPS)
        self.logit = nn.Linear(width, 1)
        self.apply(initialise_linear)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits B,N of embeddings B,N,D that have no positions yet."""
        logits: Tensor = self.logit(self.block(embeddings + self.positions))
        return logits.squeeze(-1)
