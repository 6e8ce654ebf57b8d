"""SIGMA's model: encoder, decoder, target network and prototypes (paper, section 3, figure 2).

Shapes: B clips, N tubes of a clip, M predicted ones, V visible ones, P pixel values of a tube,
D width of the encoder, O width of a target, L layers of a target, K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.method.branch import Branch
from pipeline.method.masks.base import Mask
from pipeline.method.pixels import to_device
from pipeline.method.targets import Target
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid, TubeSplit, split_mask
from pipeline.method.vit import Encoder, TransformerSize

if TYPE_CHECKING:
    from pipeline.method.optical_flow import OpticalFlow


class Prediction(NamedTuple):
    """What the model says of the predicted tubes that are in the loss: of each clip, ascending."""

    decoded: Tensor  # B,M,O: the decoder's predictions; of a target of L layers B,M,L,O
    targets: Tensor  # of that shape: the target network's features (or pixels)
    prototypes: Tensor | None = None  # K,O, of length one
    log_probabilities: Tensor | None = None  # B,M, of a mask that learns (`TubeSplit`)
    weight: float = 1.0  # of its loss among those of a model's targets

    @property
    def decoded_scores(self) -> Tensor | None:
        """Cosines B,M,K of predictions with the prototypes, which get no gradient."""
        return None if self.prototypes is None else cosines(self.decoded, self.prototypes.detach())

    @property
    def target_scores(self) -> Tensor | None:
        """Cosines B,M,K of targets with the prototypes, which do get a gradient."""
        return None if self.prototypes is None else cosines(self.targets, self.prototypes)


class WeightedTarget(NamedTuple):
    """A target and the weight of its loss."""

    target: Target | TargetNetwork
    weight: float = 1.0


class Targets(NamedTuple):
    """What a model predicts, where that is not one target of hidden tubes alone."""

    first: WeightedTarget
    further: Mapping[str, WeightedTarget]  # each with a decoder of its own
    # where visible tubes are compared in place of hidden ones: how many blocks of the encoder lie
    # between two that are, the last one first
    alignment: float | None = None


class Evidence(NamedTuple):
    """By what a mask decides that does not decide by the encoder's embeddings."""

    values: Tensor  # of each clip, what `Mask.select` gets: attention B,N or flow B,T-1,2,H,W
    features: Tensor | None = None  # B,N,O of the first target, where they came with it


class SigmaModel(Branch):
    """Encoder-decoder for masked videos, with a target network and K prototypes.

    It is itself the branch of its first target; each further one has a branch of its own, with a
    decoder of the same size.

    Two models built after the same `torch.manual_seed` are equal; the encoder comes first, so
    it is also equal for different objectives. Prototypes start as normal vectors of length one;
    the mask token as a normal of deviation 0.02, cut at one deviation.
    """

    prototypes: nn.Parameter | None

    def __init__(
        self,
        grid: TubeGrid,
        encoder: TransformerSize | Encoder,
        decoder: TransformerSize,
        target: Target | TargetNetwork | Targets,
        *,
        prototypes: int = 0,
        mask: Mask | None = None,
        load_target: bool = True,
    ) -> None:
        """Build with fresh weights; an `encoder` that is one already is taken as it is.

        `target` is built here, as it draws its weights, too. `prototypes` is K, 0 for losses that
        have none. Each of the kinds of `mask` has a mask token; None: there is one kind.
        `load_target=False` leaves out the weights of frozen networks, of targets and of the mask:
        the model can be used, saved and loaded, but not trained.
        """
        super().__init__()
        self.grid = grid
        self.encoder = encoder if isinstance(encoder, Encoder) else Encoder(encoder, grid)
        self.mask, self.mask_kinds = mask, mask.kinds if mask else 1
        targets = target if isinstance(target, Targets) else Targets(WeightedTarget(target), {})
        self.weight = targets.first.weight
        self.aligned: tuple[int, ...] = (-1,)
        kinds, ours, first = self.mask_kinds, self.encoder, targets.first.target
        if targets.alignment is None:
            self.build_decoder(ours, decoder, first, kinds=kinds, load_target=load_target)
        else:
            self.build_heads(ours, decoder, first, load_target=load_target)
            self.aligned = aligned_blocks(len(ours.blocks), self.target.layers, targets.alignment)
        self.prototypes = None
        if prototypes:
            self.prototypes = nn.Parameter(torch.randn(prototypes, self.target.width))
            self.normalise_prototypes()
        self.mask_network = mask.network(grid.shape, ours.width) if mask else None
        self.flow_network = mask.flow_network(load=load_target) if mask else None
        self.further = nn.ModuleDict()
        for name, part in targets.further.items():
            branch = Branch()
            branch.grid, branch.weight = grid, part.weight
            branch.build_decoder(ours, decoder, part.target, kinds=kinds, load_target=load_target)
            self.further[name] = branch

    @property
    def branches(self) -> list[Branch]:
        """One for each target, the model itself for the first."""
        return [self, *(branch for branch in self.further.values() if isinstance(branch, Branch))]

    @property
    def targets(self) -> list[TargetNetwork]:
        """All target networks."""
        return [branch.target for branch in self.branches]

    @property
    def stacks(self) -> list[nn.ModuleList]:
        """The transformer blocks of the encoder and of each decoder."""
        return [self.encoder.blocks, *(branch.decoder.blocks for branch in self.branches)]

    @property
    def teacher_digest(self) -> str | None:
        """The digest of all frozen networks' weights; None where there are none."""
        digests = [network.digest for network in self._frozen]
        return "+".join(digests) if digests else None

    @teacher_digest.setter
    def teacher_digest(self, digest: str | None) -> None:
        for network, each in zip(self._frozen, (digest or "").split("+"), strict=False):
            network.digest = each

    @property
    def _frozen(self) -> list[TargetNetwork | OpticalFlow]:
        """What has a frozen network: targets, and the mask."""
        targets = [target for target in self.targets if target.frozen]
        return [*targets, *([self.flow_network] if self.flow_network is not None else [])]

    def follow(self) -> None:
        """Let targets that are made of the encoder begin at its weights."""
        for target in self.targets:
            target.follow(self.encoder)

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
        decides = any(not isinstance(mask, TubeSplit) for mask in masks)
        evidence = self.evidence(videos, tubes) if decides else None
        splits = [self.split(mask, tubes, evidence) for mask in masks]
        branches, asked = self.branches, self.asked(splits)
        begun = [self.begin(tubes, asked, evidence.features if evidence else None)]
        begun += [branch.begin(tubes, asked) for branch in branches[1:]]
        features = [self.encoder.outputs(tubes, split.visible, self.aligned) for split in splits]
        # A copy, for engines that keep the whole of a parameter no longer than a forward pass.
        prototypes = None if self.prototypes is None else self.prototypes.clone()
        predictions = []
        for branch, targets in zip(branches, begun, strict=True):
            decoded = [
                branch.decode(each, split, kind)
                for kind, (each, split) in enumerate(zip(features, splits, strict=True))
            ]
            for split, *rows in zip(splits, decoded, targets(), strict=True):
                ours, theirs = (branch.compared(each, split) for each in rows)
                drawn = split.log_probabilities
                predictions.append(Prediction(ours, theirs, prototypes, drawn, branch.weight))
        return predictions

    def evidence(self, videos: Tensor, tubes: Tensor) -> Evidence | None:
        """What a mask decides by that looks at videos, or at what the first target attends to."""
        if self.flow_network is not None:
            return Evidence(self.flow_network(videos))
        if self.mask is None or not self.mask.by_attention:
            return None
        if not isinstance(self.target, FrozenFeatures):
            raise TypeError("masks by attention need a target with a frozen transformer")
        features, attention = self.target.attended(tubes)
        return Evidence(attention, features)

    def split(
        self, mask: TubeSplit | Tensor, tubes: Tensor, evidence: Evidence | None = None
    ) -> TubeSplit:
        """The split on the device of the tubes; of random numbers, what the mask makes of them.

        A mask by attention or by flow needs its `evidence`.
        """
        if isinstance(mask, TubeSplit):
            return mask.to(tubes.device)
        if self.mask is None:
            raise ValueError("this model has no mask that decides by random numbers")
        noise = to_device(mask, tubes.device)
        if self.mask.by_attention or self.mask.by_flow:
            if evidence is None:
                raise ValueError("a mask by attention or by flow needs its evidence")
            values = _for_each_mask(evidence.values, noise)
            return self.mask.select(values, noise, self.grid.shape)
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
            embeddings = _for_each_mask(embeddings, noise)
            return self.mask.select(embeddings, noise, self.grid.shape)

    @torch.no_grad()
    def tube_scores(self, videos: Tensor) -> Tensor:
        """Cosines B,N,K of every tube's target feature with every prototype."""
        if self.prototypes is None:
            raise ValueError("this model's objective has no prototypes")
        everything = torch.arange(self.grid.count, device=videos.device).expand(len(videos), -1)
        targets = self.target(self.grid.split(videos), everything)
        return cosines(targets, functional.normalize(self.prototypes, dim=1))


def aligned_blocks(depth: int, layers: int, interval: float) -> tuple[int, ...]:
    """The encoder's blocks that are aligned, from 0, ascending, as UMT has them.

    Counted back from the last: depth - 1 - int(i x interval). Raises `ValueError` where there are
    not so many blocks.
    """
    blocks = tuple(depth - 1 - int(i * interval) for i in reversed(range(layers)))
    if blocks[0] < 0:
        raise ValueError(f"an encoder of {depth} blocks has no {layers} that are {interval} apart")
    return blocks


def _for_each_mask(values: Tensor, noise: Tensor) -> Tensor:
    """Values B,... of clips as those of their masks K B,..., of which `noise` K B,... is."""
    masks = len(noise) // len(values)
    return values if masks == 1 else torch.cat([values] * masks)


def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Scores ...,K of features ...,O against unit prototypes K,O.

    Computed in float32 under mixed precision too: epsilon divides the scores' rounding errors.
    """
    with torch.autocast(features.device.type, enabled=False):
        return directions(features) @ prototypes.float().T


def directions(features: Tensor) -> Tensor:
    """Features ...,O scaled to length one, in float32."""
    return functional.normalize(features.float(), dim=-1)
