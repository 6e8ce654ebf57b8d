"""SIGMA's model: encoder, decoder, target network and prototypes (paper, section 3, figure 2).

Letters: B clips, N tubes of a clip, M masked ones, V visible ones, P pixel values of a tube,
D width of the encoder, O width of a target, K prototypes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.configuration.schema import Clip, DinoTarget, Model, Objective
from pipeline.configuration.schema import MlpTarget as MlpSettings
from pipeline.method.decoder import Decoder
from pipeline.method.positions import sinusoid_positions
from pipeline.method.targets.frozen import FrozenTarget, frozen_target
from pipeline.method.targets.projection import MlpTarget, PixelTarget
from pipeline.method.tubes import TubeGrid, TubeSplit, split_mask
from pipeline.method.vit import Encoder

TargetNetwork = PixelTarget | MlpTarget | FrozenTarget


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
        model: Model,
        objective: Objective,
        clip: Clip,
        *,
        load_teacher: bool = True,
        target: TargetNetwork | None = None,
    ) -> None:
        """Build with fresh weights.

        `load_teacher=False` leaves out the frozen network of a `dino` target: the model can be
        used, saved and loaded, but not trained. `target` takes the place of the target network
        that the objective names.
        """
        super().__init__()
        self.grid = TubeGrid.from_clip(clip, model.tube)
        self.encoder = Encoder(model, self.grid)
        self.encoder_to_decoder = nn.Linear(model.width, model.decoder_width, bias=False)
        self.mask_token = nn.Parameter(torch.empty(1, 1, model.decoder_width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.register_buffer(
            "positions",
            sinusoid_positions(self.grid.count, model.decoder_width),
            persistent=False,
        )
        self.target = target or target_network(objective, self.grid, load_teacher)
        self.decoder = Decoder(model, self.target.width)
        self.prototypes = None
        if objective.loss == "sinkhorn":
            self.prototypes = nn.Parameter(torch.randn(objective.prototypes, self.target.width))
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
        begun = self.target.begin(tubes, masked) if isinstance(self.target, FrozenTarget) else None
        decoded = self.decode(self.encoder.encode(tubes, visible), visible, masked)
        targets = begun() if begun else self.target(tubes, masked)
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


def target_network(objective: Objective, grid: TubeGrid, load_teacher: bool) -> TargetNetwork:
    """The target network that the objective names."""
    target = objective.target
    if isinstance(target, MlpSettings):
        return MlpTarget(grid.pixels, target.hidden, target.width)
    if isinstance(target, DinoTarget):
        return frozen_target(target, grid, load=load_teacher)
    return PixelTarget(grid.pixels)


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Scores ...,K of features ...,O against unit prototypes K,O.

    Computed in float32 under mixed precision too: epsilon divides the scores' rounding errors.
    """
    with torch.autocast(features.device.type, enabled=False):
        return directions(features) @ prototypes.float().T


def directions(features: Tensor) -> Tensor:
    """Features ...,O scaled to length one, in float32."""
    return functional.normalize(features.float(), dim=-1)
