"""SIGMA's model: encoder, decoder, target network and prototypes (paper, section 3, figure 2).

Shapes: B clips, N tubes of a clip, M masked ones, V visible ones, P pixel values of a tube,
D width of the encoder, O width of a target, K prototypes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.method.decoder import Decoder
from pipeline.method.positions import sinusoid_positions
from pipeline.method.targets import Target
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid, TubeSplit, split_mask
from pipeline.method.vit import Encoder, TransformerSize


class Prediction(NamedTuple):
    """What the model says of the masked tubes, in ascending order of the tubes of each clip."""

    decoded: Tensor  # B,M,O: the decoder's predictions
    targets: Tensor  # B,M,O: the target network's features (or pixels)
    prototypes: Tensor | None  # K,O, of length one

    @property
    def decoded_scores(self) -> Tensor | None:
        """Cosines B,M,K of predictions with the prototypes, which get no gradient."""
        return None if self.prototypes is None else cosines(self.decoded, self.prototypes.detach())

    @property
    def target_scores(self) -> Tensor | None:
        """Cosines B,M,K of targets with the prototypes, which do get a gradient."""
        return None if self.prototypes is None else cosines(self.targets, self.prototypes)


class SigmaModel(nn.Module):
    """Encoder-decoder for masked videos, with a target network and K prototypes.

    Two models built after the same `torch.manual_seed` are equal; the encoder comes first, so
    it is also equal for different objectives. Prototypes start as normal vectors of length one;
    the mask token as a normal of deviation 0.02, cut at one deviation.
    """

    positions: Tensor
    prototypes: nn.Parameter | None

    def __init__(
        self,
        grid: TubeGrid,
        encoder: TransformerSize,
        decoder: TransformerSize,
        target: Target | TargetNetwork,
        *,
        prototypes: int = 0,
        load_target: bool = True,
    ) -> None:
        """Build with fresh weights.

        `target` is built here, as it draws its weights, too. `prototypes` is K, 0 for losses that
        have none. `load_target=False` leaves out the weights of a frozen target: the model can be
        used, saved and loaded, but not trained.
        """
        super().__init__()
        self.grid = grid
        self.encoder = Encoder(encoder, grid)
        self.encoder_to_decoder = nn.Linear(encoder.width, decoder.width, bias=False)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.register_buffer(
            "positions",
            sinusoid_positions(grid.count, decoder.width),
            persistent=False,
        )
        self.target = (
            target if isinstance(target, TargetNetwork) else target.build(grid, load=load_target)
        )
        self.decoder = Decoder(decoder, self.target.width)
        self.prototypes = None
        if prototypes:
            self.prototypes = nn.Parameter(torch.randn(prototypes, self.target.width))
            self.normalise_prototypes()

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """Scale every prototype to length one, in place; due before each step (section 3.2).

        It is not a part of `forward`: the gradient is that of the unit vectors themselves.
        """
        if self.prototypes is not None:
            self.prototypes.copy_(functional.normalize(self.prototypes, dim=1))

    def forward(self, videos: Tensor, mask: Tensor | TubeSplit) -> Prediction:
        """Predict the masked tubes of videos B,3,T,H,W; `mask` is B,N bool, true is masked.

        Raises `ValueError` where clips of a batch differ in their number of masked tubes.
        """
        split = mask if isinstance(mask, TubeSplit) else split_mask(mask)
        visible, masked = (part.to(videos.device, non_blocking=True) for part in split)
        tubes = self.grid.split(videos)
        begun = self.target.begin(tubes, masked)
        decoded = self.decode(self.encoder.encode(tubes, visible), visible, masked)
        targets = begun()
        # A copy, for engines that keep the whole of a parameter no longer than a forward pass.
        prototypes = None if self.prototypes is None else self.prototypes.clone()
        return Prediction(decoded, targets, prototypes)

    def decode(self, features: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Predictions B,M,O for tubes `masked` (B,M) from features B,V,D of tubes `visible`."""
        tokens = self.encoder_to_decoder(features)
        positions = self.positions.to(tokens.dtype)
        hidden = self.mask_token.to(tokens.dtype) + positions[masked]
        tokens = torch.cat((tokens + positions[visible], hidden), dim=1)
        predictions: Tensor = self.decoder(tokens, masked.shape[1])
        return predictions

    @torch.no_grad()
    def tube_scores(self, videos: Tensor) -> Tensor:
        """Cosines B,N,K of every tube's target feature with every prototype."""
        if self.prototypes is None:
            raise ValueError("this model's objective has no prototypes")
        everything = torch.arange(self.grid.count, device=videos.device).expand(len(videos), -1)
        targets = self.target(self.grid.split(videos), everything)
        return cosines(targets, functional.normalize(self.prototypes, dim=1))


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Scores ...,K of features ...,O against unit prototypes K,O.

    Computed in float32 under mixed precision too: epsilon divides the scores' rounding errors.
    """
    with torch.autocast(features.device.type, enabled=False):
        return directions(features) @ prototypes.float().T


def directions(features: Tensor) -> Tensor:
    """Features ...,O scaled to length one, in float32."""
    return functional.normalize(features.float(), dim=-1)
