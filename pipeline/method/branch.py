"""From the encoder's features to predictions of one target.

Shapes: B clips, N tubes of a clip, M predicted ones, V visible ones, P pixel values of a tube,
D width of the encoder, O width of a target, L layers of a target.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pipeline.method.decoder import AlignedHeads, Decoder
from pipeline.method.positions import learned, positions
from pipeline.method.targets import Target
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid, TubeSplit, gather
from pipeline.method.vit import Encoder, TransformerSize, initialise_normal


class Branch(nn.Module):
    """A target network, and what predicts its features: projection, mask tokens, decoder.

    Where visible tubes are aligned, it is a linear head on each of the encoder's chosen blocks
    alone.
    """

    grid: TubeGrid
    positions: Tensor
    decoder: Decoder | AlignedHeads
    weight = 1.0  # of its loss

    def build_decoder(
        self,
        encoder: Encoder,
        size: TransformerSize,
        target: Target | TargetNetwork,
        *,
        kinds: int,
        load_target: bool,
    ) -> None:
        """Give it fresh weights, for so many `kinds` of mask."""
        grid = self.grid
        self.encoder_to_decoder = nn.Linear(encoder.width, size.width, bias=size.projection_bias)
        self.mask_token = nn.Parameter(torch.empty(kinds, 1, size.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        if size.initialisation == "vjepa":
            initialise_normal(self.encoder_to_decoder)
            nn.init.zeros_(self.mask_token)
        places = positions(size.positions, grid.shape, size.width)
        self.register_buffer("positions", places, persistent=False)
        self.learned = learned(size.positions, grid.shape, size.width)
        self.target = _network(target, grid, load=load_target)
        self.target.follow(encoder)
        self.decoder = Decoder(size, self.target.width)

    def build_heads(
        self,
        encoder: Encoder,
        size: TransformerSize,
        target: Target | TargetNetwork,
        *,
        load_target: bool,
    ) -> None:
        """Give it fresh weights that align visible tubes with the layers of a target."""
        places = positions(size.positions, self.grid.shape, encoder.width)
        self.register_buffer("positions", places, persistent=False)
        self.learned = None
        self.target = _network(target, self.grid, load=load_target)
        self.decoder = AlignedHeads(encoder.width, self.target.width, self.target.layers)

    def asked(self, splits: Sequence[TubeSplit]) -> list[Tensor]:
        """The numbers B,M of the tubes that are predicted under each mask."""
        aligned = isinstance(self.decoder, AlignedHeads)
        return [split.visible if aligned else split.predicted for split in splits]

    def begin(
        self, tubes: Tensor, masked: Sequence[Tensor], whole: Tensor | None = None
    ) -> Callable[[], list[Tensor]]:
        """Begin with the targets of tubes B,N,P under each mask: each B,M,O.

        The target sees a clip once, whatever the number of its masks. `whole` B,N,O are those of
        all tubes, where they are known.
        """
        batch = len(tubes)
        asked = [part.view(-1, batch, part.shape[1]).transpose(0, 1).flatten(1) for part in masked]
        places = asked[0] if len(asked) == 1 else torch.cat(asked, 1)
        if whole is None:
            begun = self.target.begin(tubes, places)
        else:
            begun = functools.partial(gather, whole, places)

        def targets() -> list[Tensor]:
            together = torch.split(begun(), [part.shape[1] for part in asked], dim=1)
            rows = []
            for part, each in zip(masked, together, strict=True):
                several = each.reshape(batch, -1, part.shape[1], each.shape[2])
                rows.append(several.transpose(0, 1).flatten(0, 1))
            return rows

        return targets

    def decode(self, features: Sequence[Tensor], split: TubeSplit, kind: int = 0) -> Tensor:
        """Predictions B,M,O for the predicted tubes of `split`.

        `features` B,V,D of its visible ones are of the encoder's last block, or of those that are
        aligned. `kind` is the number of the mask's kind, each of which has a mask token.
        """
        if isinstance(self.decoder, AlignedHeads):
            places = self.positions[split.visible]
            aligned: Tensor = self.decoder([each + places.to(each.dtype) for each in features])
            return aligned
        tokens = self.encoder_to_decoder(features[0])
        places = (self.positions if self.learned is None else self.learned()).to(tokens.dtype)
        hidden = self.mask_token[kind].to(tokens.dtype) + places[split.predicted]
        tokens = torch.cat((tokens + places[split.visible], hidden), dim=1)
        if self.learned is not None:
            tokens = self.learned.with_class(tokens)
        predictions: Tensor = self.decoder(tokens, split.predicted.shape[1])
        return predictions

    def compared(self, values: Tensor, split: TubeSplit) -> Tensor:
        """Of predictions or targets B,M,O those in the loss; of several layers B,M,L,O."""
        if not isinstance(self.decoder, AlignedHeads):
            values = split.select(values)
        layers = self.target.layers
        return values if layers == 1 else values.reshape(*values.shape[:2], layers, -1)


def _network(target: Target | TargetNetwork, grid: TubeGrid, *, load: bool) -> TargetNetwork:
    return target if isinstance(target, TargetNetwork) else target.build(grid, load=load)
