"""Frozen transformers as maps from pixels to a feature of every tube.

One of images sees the first frame of every tube (every second frame for tubes of two). Where its
patches and the tubes do not lie on the same grid (DINOv2 has patches of 14 pixels), features are
resampled bilinearly to the grid of tubes. One of videos sees the whole clip, cut into the same
tubes.

Shapes: B clips, F frames, N tubes of a clip, n of a frame, P pixel values of a tube, L layers,
O values of a target: L times the width of a feature.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.method.pixels import MEAN, STD
from pipeline.method.targets import EncoderTarget, FrozenTarget
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder


class Attended(NamedTuple):
    """What a network says of all tubes, and which of them its last block attends to."""

    features: Tensor  # B,N,O; of frames F,n,O
    attention: Tensor  # B,N or F,n: shares, of the class token where there is one, else the mean


class PatchProjection(nn.Module):
    """A convolution whose kernel is its stride, as one product over patches, with its weights.

    Libraries of convolutions are slow at it where a pixel's channels adjoin
    (docs/notes/accelerator.md).
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, frames: Tensor) -> Tensor:
        """Maps F,D,h,w of frames F,3,H,W."""
        rows, columns = self.weight.shape[2:]
        height, width = frames.shape[2] // rows, frames.shape[3] // columns
        patches = frames.reshape(*frames.shape[:2], height, rows, width, columns)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3)  # F,h,w and row, column, channel
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(patches, weight, self.bias).permute(0, 3, 1, 2)


class PatchFeatures(nn.Module):
    """A timm vision transformer as a map from frames to features on a grid of tubes."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Any, grid: TubeGrid, settings: FrozenTarget | None = None) -> None:
        super().__init__()
        self.network = network
        embedding = network.patch_embed
        projection = embedding.proj
        if isinstance(projection, nn.Conv2d) and projection.kernel_size == projection.stride:
            embedding.proj = PatchProjection(projection)
        self.settings = settings or FrozenTarget(model="")
        self.rows, self.columns = grid.height, grid.width
        patch = embedding.patch_size
        _, height, width = grid.clip_shape
        self.input_size = tuple(
            -(-side // p) * p for side, p in zip((height, width), patch, strict=True)
        )
        self.patches = tuple(side // p for side, p in zip(self.input_size, patch, strict=True))
        # Videos come with ImageNet's normalisation; a network may have been trained with another.
        ours = torch.tensor((MEAN, STD))
        theirs = torch.tensor(_normalisation(network, self.settings))
        self.register_buffer("scale", (ours[1] / theirs[1])[:, None, None])
        self.register_buffer("shift", ((ours[0] - theirs[0]) / theirs[1])[:, None, None])

    def forward(self, frames: Tensor) -> Tensor:
        """Features F,n,O of frames F,3,H,W; n counts the tubes of one frame."""
        layers, final_norm = list(self.settings.layers), self.settings.final_norm
        frames = frames * self.scale + self.shift
        if frames.shape[-2:] != self.input_size:
            frames = functional.interpolate(frames, self.input_size, mode="bilinear")
        frames = frames.to(next(self.network.parameters()).dtype)
        with _quick_attention(frames.device):
            features: list[Tensor] = self.network.forward_intermediates(
                frames, layers, norm=final_norm, output_fmt="NLC", intermediates_only=True
            )
        if self.settings.projection:
            features = [self.network.head(each) for each in features]
        return self._on_tubes(torch.cat(features, dim=-1))

    def attended(self, frames: Tensor) -> Attended:
        """Features of frames F,3,H,W, and how much of the last block's attention each gets."""
        attention = self.network.blocks[-1].attn
        with _inputs(attention) as seen:
            features = self.forward(frames)  # not compiled: that would not see who looks on
        qkv = attention.qkv(seen[0])
        split = qkv.reshape(*qkv.shape[:2], 3, attention.num_heads, -1)
        queries, keys, _ = split.permute(2, 0, 3, 1, 4)
        prefix = self.network.num_prefix_tokens
        queries = attention.q_norm(queries[:, :, :1] if prefix else queries)
        shares = mean_attention(queries, attention.k_norm(keys))[:, prefix:]
        return Attended(features, self._on_tubes(shares.unsqueeze(-1)).squeeze(-1))

    def _on_tubes(self, features: Tensor) -> Tensor:
        """Values of patches F,patches,O as those of tubes F,n,O."""
        if self.patches == (self.rows, self.columns):
            return features
        maps = features.transpose(1, 2).reshape(len(features), -1, *self.patches)
        maps = functional.interpolate(maps.float(), (self.rows, self.columns), mode="bilinear")
        return maps.flatten(2).transpose(1, 2)


def _normalisation(network: Any, settings: FrozenTarget) -> tuple[Sequence[float], Sequence[float]]:
    """The mean and the deviation of pixels from 0 to 1 that a network is given."""
    if settings.input_normalisation == "network":
        return network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    if settings.input_normalisation == "imagenet":
        return MEAN, STD
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class ClipFeatures(nn.Module):
    """A video encoder as a map from tubes B,N,P to features B,N,O."""

    def __init__(self, encoder: Encoder, settings: EncoderTarget) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings

    def forward(self, tubes: Tensor) -> Tensor:
        """Features of all tubes of B clips."""
        layers, final_norm = self.settings.layers, self.settings.final_norm
        return torch.cat(self.encoder.outputs(tubes, None, layers, final_norm=final_norm), dim=-1)

    def attended(self, tubes: Tensor) -> Attended:
        """Features of all tubes, and how much of the last chosen block's attention each gets."""
        stack = list(self.encoder.blocks)
        attention: Any = stack[max(range(len(stack))[n] for n in self.settings.layers)].attn
        with _inputs(attention) as seen:
            features = self(tubes)
        queries, keys, _ = attention.split(seen[0])
        classes = queries.shape[2] - tubes.shape[1]
        shares = mean_attention(queries[:, :, :1] if classes else queries, keys)
        return Attended(features, shares[:, classes:])


def mean_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Shares B,K of keys B,heads,K,width in the attention of queries B,heads,Q,width: the mean."""
    scale: float = queries.shape[-1] ** -0.5
    return ((queries * scale) @ keys.transpose(-1, -2)).softmax(-1).mean(dim=(1, 2))


@contextlib.contextmanager
def _inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module is given."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _quick_attention(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Attention in three steps on a CPU, as `vit.attend` has it for sequences this short."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
