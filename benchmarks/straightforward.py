"""The method written down as its description reads, and nothing done for speed.

What `pipeline` is compared with where the authors' own code is not at hand: the same weights, the
same masks and the same losses, but every tube of a clip embedded by a convolution and nine tenths
of them dropped, attention in three steps, targets made for all tubes, both matrices of scores
kept, Sinkhorn on the whole matrix of exponentials, and PyTorch's AdamW as it comes.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from pipeline.method.losses import Loss
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets.projection import MlpProjection, Pixels


class Straightforward(nn.Module):
    """A copy of a model's weights, and the loss of a batch computed the plain way."""

    def __init__(self, model: SigmaModel, loss: Loss) -> None:
        super().__init__()
        if not isinstance(model.target, MlpProjection | Pixels):
            raise ValueError("the straightforward implementation has targets 'mlp' and 'pixel'")
        self.parts = copy.deepcopy(model)
        self.loss = loss

    def forward(self, videos: Tensor, mask: Tensor) -> Tensor:
        """The loss of videos B,3,T,H,W, normalised, and a mask B,N bool, true is masked."""
        model = self.parts
        batch, tubes = mask.shape
        width = model.encoder.width
        tokens = model.encoder.patch_embed.proj(videos).flatten(2).transpose(1, 2)
        tokens = (tokens + model.encoder.positions)[~mask].reshape(batch, -1, width)
        for block in model.encoder.blocks:
            tokens = _block(block, tokens)
        tokens = model.encoder_to_decoder(model.encoder.norm(tokens))

        positions = model.positions.expand(batch, tubes, -1)
        seen = positions[~mask].reshape(batch, -1, tokens.shape[-1])
        hidden = positions[mask].reshape(batch, -1, tokens.shape[-1])
        tokens = torch.cat((tokens + seen, model.mask_token + hidden), dim=1)
        for block in model.decoder.blocks:
            tokens = _block(block, tokens)
        decoded = model.decoder.head(model.decoder.norm(tokens[:, -hidden.shape[1] :]))

        labels = self.pixels(videos)[mask].reshape(batch, hidden.shape[1], -1)
        if model.prototypes is None:
            return functional.mse_loss(decoded, labels)
        return self.swapped(decoded, cast(MlpProjection, model.target).network(labels))

    def pixels(self, videos: Tensor) -> Tensor:
        """Pixels of all tubes B,N,P, normalised per tube and channel."""
        mean, deviation = (
            videos.new_tensor(values)[:, None, None, None]
            for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        grid = self.parts.grid
        t, h, w = grid.tube
        pixels = videos * deviation + mean
        parts = pixels.reshape(-1, 3, grid.frames, t, grid.height, h, grid.width, w)
        tubes = parts.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(len(videos), grid.count, t * h * w, 3)
        variance = tubes.var(dim=-2, unbiased=True, keepdim=True)
        return ((tubes - tubes.mean(dim=-2, keepdim=True)) / (variance.sqrt() + 1e-6)).flatten(-2)

    def swapped(self, decoded: Tensor, targets: Tensor) -> Tensor:
        """Sum of both branches' cross-entropies with the other's assignments."""
        prototypes = cast(Tensor, self.parts.prototypes)
        decoded_scores = functional.normalize(decoded, dim=-1) @ prototypes.detach().T
        target_scores = functional.normalize(targets, dim=-1) @ prototypes.T
        decoded_scores, target_scores = decoded_scores.flatten(0, 1), target_scores.flatten(0, 1)
        by_decoder = self.sinkhorn(decoded_scores).argmax(1)
        by_target = self.sinkhorn(target_scores).argmax(1)
        temperature = self.loss.temperature
        return functional.cross_entropy(
            target_scores / temperature, by_decoder
        ) + functional.cross_entropy(decoded_scores / temperature, by_target)

    @torch.no_grad()
    def sinkhorn(self, scores: Tensor) -> Tensor:
        """The transport N,K of scores N,K."""
        q = torch.exp(scores / self.loss.epsilon).T
        q /= q.sum()
        for _ in range(self.loss.iterations):
            q /= q.sum(dim=1, keepdim=True)
            q /= q.shape[0]
            q /= q.sum(dim=0, keepdim=True)
            q /= q.shape[1]
        return (q * q.shape[1]).T

    def normalise_prototypes(self) -> None:
        """As before every step."""
        self.parts.normalise_prototypes()


def _block(block: Any, tokens: Tensor) -> Tensor:
    tokens = tokens + _attention(block.attn, block.norm1(tokens))
    mixed: Tensor = block.mlp(block.norm2(tokens))
    return tokens + mixed


def _attention(attention: Any, tokens: Tensor) -> Tensor:
    batch, count, width = tokens.shape
    bias = torch.cat((attention.q_bias, torch.zeros_like(attention.v_bias), attention.v_bias))
    qkv = functional.linear(tokens, attention.qkv.weight, bias)
    q, k, v = qkv.reshape(batch, count, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, count, width)
    projected: Tensor = attention.proj(mixed)
    return projected
