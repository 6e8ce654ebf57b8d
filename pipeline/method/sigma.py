"""SIGMA's model: encoder, decoder, target network and prototypes (paper, section 3, figure 2).

Shapes: B clips, N tubes of a clip, M predicted ones, V visible ones, P pixel values of a tube,
D width of the encoder, O width of a target, K prototypes.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.method.decoder import Decoder
from pipeline.method.masks.base import Mask
from pipeline.method.positions import learned, positions
from pipeline.method.targets import Target
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid, TubeSplit, split_mask
from pipeline.method.vit import Encoder, TransformerSize, initialise_normal


class Prediction(NamedTuple):
    """What the model says of the predicted tubes that are in the loss: of each clip, ascending."""

    decoded: Tensor  # B,M,O: the decoder's predictions
    targets: Tensor  # B,M,O: the target network's features (or pixels)
    prototypes: Tensor | None  # K,O, of length one
    log_probabilities: Tensor | None = None  # B,M, of a mask that learns (`TubeSplit`)

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
        mask: Mask | None = None,
        load_target: bool = True,
    ) -> None:
        """Build with fresh weights.

        `target` is built here, as it draws its weights, too. `prototypes` is K, 0 for losses that
        have none. Each of the kinds of `mask` has a mask token; None: there is one kind.
        `load_target=False` leaves out the weights of a frozen target: the model can be used, saved
        and loaded, but not trained.
        """
        super().__init__()
        self.grid = grid
        self.encoder = Encoder(encoder, grid)
        self.encoder_to_decoder = nn.Linear(
            encoder.width, decoder.width, bias=decoder.projection_bias
        )
        self.mask, self.mask_kinds = mask, mask.kinds if mask else 1
        self.mask_token = nn.Parameter(torch.empty(self.mask_kinds, 1, decoder.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        if decoder.initialisation == "vjepa":
            initialise_normal(self.encoder_to_decoder)
            nn.init.zeros_(self.mask_token)
        places = positions(decoder.positions, grid.shape, decoder.width)
        self.register_buffer("positions", places, persistent=False)
        self.learned = learned(decoder.positions, grid.shape, decoder.width)
        self.target = (
            target if isinstance(target, TargetNetwork) else target.build(grid, load=load_target)
        )
        self.target.follow(self.encoder)
        self.decoder = Decoder(decoder, self.target.width)
        self.prototypes = None
        if prototypes:
            self.prototypes = nn.Parameter(torch.randn(prototypes, self.target.width))
            self.normalise_prototypes()
        self.mask_network = mask.network(grid.shape, encoder.width) if mask else None

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """Scale every prototype to length one, in place; due before each step (section 3.2).

        It is not a part of `forward`: the gradient is that of the unit vectors themselves.
        """
        if self.prototypes is not None:
            self.prototypes.copy_(functional.normalize(self.prototypes, dim=1))

    @overload
    def forward(self, videos: Tensor, mask: Tensor | TubeSplit) -> Prediction: ...

    @overload
    def forward(self, videos: Tensor, mask: list[TubeSplit | Tensor]) -> list[Prediction]: ...

    def forward(
        self, videos: Tensor, mask: Tensor | TubeSplit | list[TubeSplit | Tensor]
    ) -> Prediction | list[Prediction]:
        """Predict tubes of videos B,3,T,H,W under a mask B,N (`split_mask`), or under several.

        Of several (`split_masks`), kind i of mask has a prediction of its own.
        """
        if not isinstance(mask, list):
            split = mask if isinstance(mask, TubeSplit) else split_mask(mask)
            return self._predictions(videos, [split])[0]
        return self._predictions(videos, mask)

    def _predictions(self, videos: Tensor, masks: list[TubeSplit | Tensor]) -> list[Prediction]:
        tubes = self.grid.split(videos)
        splits = [self.split(mask, tubes) for mask in masks]
        # The target sees a clip once, whatever the number of its masks.
        batch, each = len(videos), [split.predicted for split in splits]
        asked = [part.view(-1, batch, part.shape[1]).transpose(0, 1).flatten(1) for part in each]
        begun = self.target.begin(tubes, asked[0] if len(asked) == 1 else torch.cat(asked, 1))
        decoded = [
            self.decode(self.encoder.encode(tubes, split.visible), split, kind)
            for kind, split in enumerate(splits)
        ]
        targets = torch.split(begun(), [part.shape[1] for part in asked], dim=1)
        # A copy, for engines that keep the whole of a parameter no longer than a forward pass.
        prototypes = None if self.prototypes is None else self.prototypes.clone()
        predictions = []
        for split, ours, theirs in zip(splits, decoded, targets, strict=True):
            several = theirs.reshape(batch, -1, split.predicted.shape[1], theirs.shape[2])
            rows = several.transpose(0, 1).flatten(0, 1)
            chosen = split.select(ours), split.select(rows)
            predictions.append(Prediction(*chosen, prototypes, split.log_probabilities))
        return predictions

    def split(self, mask: TubeSplit | Tensor, tubes: Tensor) -> TubeSplit:
        """The split on the device of the tubes; of random numbers, what the mask makes of them."""
        if isinstance(mask, TubeSplit):
            return mask.to(tubes.device)
        if self.mask is None:
            raise ValueError("this model has no mask that decides by random numbers")
        embedding, device = self.encoder.patch_embed, tubes.device.type
        autocast = torch.amp.is_autocast_available(device)  # not where operations are but counted
        learns = self.mask_network is not None and torch.is_grad_enabled()
        with (
            torch.autocast(device, enabled=False) if autocast else nullcontext(),
            torch.set_grad_enabled(learns),
        ):
            embeddings = embedding(tubes.to(embedding.proj.weight.dtype))
            if self.mask_network is not None:
                embeddings = self.mask_network(embeddings)
            noise = mask.to(tubes.device, non_blocking=True)
            if len(noise) > len(embeddings):  # several masks of each clip
                embeddings = torch.cat([embeddings] * (len(noise) // len(embeddings)))
            return self.mask.select(embeddings, noise, self.grid.shape)

    def decode(self, features: Tensor, split: TubeSplit, kind: int = 0) -> Tensor:
        """Predictions B,M,O for the predicted tubes of `split` from features B,V,D of its visible.

        `kind` is the number of the mask's kind, each of which has a mask token.
        """
        tokens = self.encoder_to_decoder(features)
        places = (self.positions if self.learned is None else self.learned()).to(tokens.dtype)
        hidden = self.mask_token[kind].to(tokens.dtype) + places[split.predicted]
        tokens = torch.cat((tokens + places[split.visible], hidden), dim=1)
        if self.learned is not None:
            tokens = self.learned.with_class(tokens)
        predictions: Tensor = self.decoder(tokens, split.predicted.shape[1])
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
