"""Frozen features: an encoder's tokens, of all tubes or of those that change most, and their mean.

Where a camera stands still most tubes show nothing. The encoder sees all of them all the same, as
what is frozen was trained on whole clips or has learned what surrounds a motion; those that change
least are left out of what probes read. Fine-tuning, which may adapt, does not even show them.

Shapes: B clips, N tubes of a clip, K kept ones, D width of the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.method.masks.base import visible_count
from pipeline.method.masks.redundancy import most_important
from pipeline.method.tubes import gather
from pipeline.method.vit import Encoder


@torch.no_grad()
def changing_tubes(encoder: Encoder, tubes: Tensor, drop: float) -> Tensor:
    """Indices B,K of the int((1 - drop) N) tubes that change most, in ascending order.

    Of clips that are split into tubes B,N,P; a tube changes as far as its embedding by `encoder` is
    from that of the same place one time before (EVEREST). Raises `UserError` where none would be
    kept.
    """
    grid = encoder.grid
    count = visible_count(grid.count, drop, grid.shape)
    embeddings = encoder.patch_embed(tubes)
    return most_important(embeddings, count, grid.shape).sort(1).values


class Tokens(nn.Module):
    """An encoder's tokens of videos B,3,T,H,W: B,N,D, or B,K,D of the tubes that change most.

    `drop_tubes` is the share of a clip's tubes, those that change least, that are left out after
    the encoder has seen them all; None: none.
    """

    def __init__(self, encoder: Encoder, drop_tubes: float | None = None) -> None:
        super().__init__()
        self.encoder, self.drop_tubes = encoder, drop_tubes

    @property
    def count(self) -> int:
        """N or K, tokens of a clip."""
        grid = self.encoder.grid
        if self.drop_tubes is None:
            return grid.count
        return visible_count(grid.count, self.drop_tubes, grid.shape)

    def tokens(self, videos: Tensor) -> Tensor:
        """Return the tokens B,N,D or B,K,D."""
        if self.drop_tubes is None:
            tokens: Tensor = self.encoder(videos)
            return tokens
        tubes = self.encoder.grid.split(videos)
        return gather(
            self.encoder.encode(tubes), changing_tubes(self.encoder, tubes, self.drop_tubes)
        )

    def forward(self, videos: Tensor) -> Tensor:
        return self.tokens(videos)


class Pooled(Tokens):
    """The mean over these tokens, or what a network of images makes of all its own: B,D."""

    @property
    def width(self) -> int:
        """D."""
        return self.encoder.pooled_width if self.drop_tubes is None else self.encoder.width

    def forward(self, videos: Tensor) -> Tensor:
        if self.drop_tubes is None:
            return self.encoder.pooled(videos)
        return self.tokens(videos).float().mean(dim=1)
