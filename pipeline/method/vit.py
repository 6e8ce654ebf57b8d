"""The vision transformer of SIGMA and VideoMAE: blocks, and an encoder of visible tubes only.

Pre-norm blocks (Dosovitskiy et al. 2021) with three particulars: queries and values have a
learned bias but keys have none, LayerNorm's epsilon is 1e-6, and there is no class token.
Module names follow the official checkpoints, so that those load as they are.

Initialisation, as in the public code: Xavier uniform for the linear maps inside blocks and for
the decoder's head, zero biases, ones in LayerNorm; PyTorch's own default for the tube embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError
from pipeline.method.choices import Initialisation, Positions
from pipeline.method.positions import learned, positions
from pipeline.method.tubes import CHANNELS, TubeGrid, gather

NORM_EPS = 1e-6
SHORT = 784  # tokens up to which plain attention is the faster one (docs/notes/speed.md)


@dataclass(frozen=True)
class TransformerSize:
    """How large a stack of transformer blocks is, and how its tokens and weights begin."""

    width: int  # D
    depth: int  # blocks
    heads: int  # of attention; they divide the width
    mlp_ratio: float = 4.0  # hidden width of an MLP, in widths
    drop_path: float = 0.0  # stochastic depth of the last block; the rate grows linearly from 0
    recompute: bool = False  # activations are made again in the backward pass: less memory
    positions: Positions = "sinusoid"
    initialisation: Initialisation = "videomae"
    projection_bias: bool = False  # of a decoder's map from the encoder


class Attention(nn.Module):
    """Multi-head self-attention B,N,D -> B,N,D with biases on queries and values, or on none."""

    def __init__(self, width: int, heads: int, *, biases: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                f"{heads} heads do not divide a width of {width}",
                place="model.width, model.heads (or decoder_width, decoder_heads)",
            )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width)) if biases else None
        self.v_bias = nn.Parameter(torch.zeros(width)) if biases else None
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = attend(*self.split(tokens))
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens B,N,D: each B,heads,N,width of a head."""
        bias = None
        if self.q_bias is not None and self.v_bias is not None:
            # A bias on keys would shift all logits of a query alike and cancel in the softmax.
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = functional.linear(tokens, self.qkv.weight, bias)
        split = qkv.reshape(*tokens.shape[:2], 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(width)) v, of B,heads,N,width each; fused but for short ones on a CPU.

    There, fused attention is made of many small products, each of which oneDNN prepares anew.
    """
    if q.device.type == "cpu" and q.shape[-2] <= SHORT:
        scale: float = q.shape[-1] ** -0.5
        return ((q * scale) @ k.transpose(-1, -2)).softmax(-1) @ v
    return functional.scaled_dot_product_attention(q, k, v)


class Mlp(nn.Module):
    """Two linear maps with GELU between them, B,N,D -> B,N,D.

    Written here, as is `DropPath`: importing timm for these two costs each process seconds.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return mixed


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a sample's branch is zero with `rate`.

    What is kept is divided by 1 - rate, so that its mean stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training:
            return branch
        keep = 1 - self.rate
        kept = branch.new_empty((len(branch), *[1] * (branch.ndim - 1))).bernoulli_(keep)
        return branch * kept.div_(keep)


class Block(nn.Module):
    """Attention and MLP, each on normalised tokens and added back."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float = 0.0,
        *,
        biases: bool = True,
        eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, biases=biases)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        mixed: Tensor = self.drop_path(self.mlp(self.norm2(tokens)))
        return tokens + mixed


def blocks(size: TransformerSize) -> nn.ModuleList:
    """A stack of blocks, initialised."""
    rates = [size.drop_path * index / max(size.depth - 1, 1) for index in range(size.depth)]
    stack = nn.ModuleList(Block(size.width, size.heads, size.mlp_ratio, rate) for rate in rates)
    stack.apply(initialise_linear)
    return stack


def initialise_linear(module: nn.Module) -> None:
    """Xavier uniform weights and zero bias, for linear maps; other modules are left alone."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def initialise(module: nn.Module, size: TransformerSize) -> None:
    """Give a module with `blocks` the weights of `size.initialisation`, where not VideoMAE's."""
    if size.initialisation == "videomae":
        return
    module.apply(initialise_normal)
    for number, block in enumerate(module.get_submodule("blocks").children(), start=1):
        for last in ("attn.proj", "mlp.fc2"):
            block.get_parameter(f"{last}.weight").div_(math.sqrt(2 * number))


def initialise_normal(module: nn.Module) -> None:
    """V-JEPA's weights of linear maps and convolutions: normal, deviation 0.02; zero bias."""
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def run_blocks(stack: Iterable[nn.Module], tokens: Tensor, recompute: bool) -> Tensor:
    """Pass tokens through the blocks; `recompute` makes activations again when going back."""
    for block in stack:
        if recompute and torch.is_grad_enabled():
            tokens = checkpoint(block, tokens, use_reentrant=False)
        else:
            tokens = block(tokens)
    return tokens


class TubeEmbedding(nn.Module):
    """A linear map of a tube's pixels, kept as the weights of a convolution."""

    def __init__(self, width: int, tube: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(CHANNELS, width, kernel_size=tube, stride=tube)

    def forward(self, tubes: Tensor) -> Tensor:
        """Embed tubes B,N,P (as `TubeGrid.split` orders them): B,N,D."""
        weight = self.proj.weight.permute(0, 2, 3, 4, 1).flatten(
            1
        )  # to frame, row, column, channel
        return functional.linear(tubes, weight, self.proj.bias)


class Encoder(nn.Module):
    """The transformer over the visible tubes of a clip.

    With `final_norm=False` the last LayerNorm is left out (fine-tuning normalises after pooling).
    """

    positions: Tensor

    def __init__(self, size: TransformerSize, grid: TubeGrid, *, final_norm: bool = True) -> None:
        super().__init__()
        self.width = size.width
        self.position_kind = size.positions
        self.recompute = size.recompute
        self.patch_embed = TubeEmbedding(size.width, grid.tube)
        self.blocks = blocks(size)
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPS) if final_norm else nn.Identity()
        self.register_buffer("positions", torch.empty(0), persistent=False)
        self.learned = learned(size.positions, grid.shape, size.width)
        self.grid = grid
        self.use_grid(grid)
        initialise(self, size)

    def use_grid(self, grid: TubeGrid) -> None:
        """Take clips of this grid: positions are computed anew. `UserError` for learned ones."""
        if self.learned is not None and grid.shape != self.grid.shape:
            raise UserError(
                f"positions were learned for clips of {self.grid.shape} tubes, not {grid.shape}",
                place="model.positions",
                remedy="use clips of the size that the model was trained on",
            )
        self.grid = grid
        self.positions = positions(self.position_kind, grid.shape, self.width).to(self.positions)

    def forward(self, videos: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features B,V,D of the tubes `visible` (indices B,V; all N where None) of B,3,T,H,W."""
        return self.encode(self.grid.split(videos), visible)

    @property
    def pooled_width(self) -> int:
        """How many numbers `pooled` has."""
        return self.width

    def pooled(self, videos: Tensor) -> Tensor:
        """Features B,D of whole clips: the mean over all tubes."""
        tokens: Tensor = self(videos)
        return tokens.float().mean(dim=1)

    def encode(self, tubes: Tensor, visible: Tensor | None = None) -> Tensor:
        """As `forward`, for a clip that is already split into tubes B,N,P.

        Hidden tubes are dropped before the embedding: none of them is ever multiplied.
        """
        return self.outputs(tubes, visible)[0]

    def outputs(
        self,
        tubes: Tensor,
        visible: Tensor | None = None,
        layers: Sequence[int] = (-1,),
        *,
        final_norm: bool = True,
    ) -> list[Tensor]:
        """Features as `encode` gives them, but of the blocks of these numbers (-1 is the last).

        All go through the last norm, unless `final_norm` is false.
        """
        places = self.positions if self.learned is None else self.learned()
        if visible is not None:
            tubes, places = gather(tubes, visible), places[visible]
        tokens = self.patch_embed(tubes)
        tokens = tokens + places.to(tokens.dtype)
        if self.learned is not None:
            tokens = self.learned.with_class(tokens)
        stack = list(self.blocks)
        numbers = [range(len(stack))[layer] for layer in layers]
        features, done = {}, 0
        for number in sorted(set(numbers)):
            tokens = run_blocks(stack[done : number + 1], tokens, self.recompute)
            features[number] = self.norm(tokens) if final_norm else tokens
            done = number + 1
        chosen = [features[number] for number in numbers]
        return chosen if self.learned is None else [each[:, 1:] for each in chosen]
