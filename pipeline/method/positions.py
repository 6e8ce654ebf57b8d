"""Positions of tokens (D channels): sines and cosines of their numbers or places, or learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.method.choices import Positions

Grid = tuple[int, int, int]  # tubes in time, height and width


def positions(kind: Positions, grid: Grid, width: int) -> Tensor:
    """Positions N,D (float32) of the tokens of a grid, time slowest; computed in float64."""
    if kind == "learned":
        return torch.empty(0)  # `LearnedPositions` has them
    if kind == "sinusoid":
        return sinusoid_positions(grid[0] * grid[1] * grid[2], width)
    axes = [0, 1, 2]
    if kind == "sincos_3d":
        each = 2 * -(-width // 6)
        widths = [each, each, each]  # cut to D in all
    elif kind == "sincos_3d_quarter_time":
        widths, axes = [width // 4, 3 * width // 8, 3 * width // 8], [0, 2, 1]
    else:
        widths = [width // 2, width // 4, width // 4]
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid))
    parts = [_sines_then_cosines(places[:, a], w) for a, w in zip(axes, widths, strict=True)]
    return torch.cat(parts, dim=1)[:, :width].float()


class LearnedPositions(nn.Module):
    """Positions of places and of times, added, and a class token with its own, as MAE-ST has them.

    They begin as normals of deviation 0.02, cut at two units.
    """

    def __init__(self, grid: Grid, width: int) -> None:
        super().__init__()
        self.space = nn.Parameter(torch.empty(1, grid[1] * grid[2], width))
        self.time = nn.Parameter(torch.empty(1, grid[0], width))
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self) -> Tensor:
        """Positions N,D of all tokens, time slowest."""
        return (self.time[0, :, None] + self.space).flatten(0, 1)

    def with_class(self, tokens: Tensor) -> Tensor:
        """Put the class token before tokens B,n,D: B,n+1,D."""
        return torch.cat((self.class_token.expand(len(tokens), -1, -1).to(tokens), tokens), dim=1)


def learned(kind: Positions, grid: Grid, width: int) -> LearnedPositions | None:
    """The module of learned positions; None for those that are computed."""
    return LearnedPositions(grid, width) if kind == "learned" else None


def _sines_then_cosines(places: Tensor, width: int) -> Tensor:
    """Channels N,width of one axis: sin(p / 10000^(2i / width)), then as many cosines."""
    rates = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = places[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def sinusoid_positions(count: int, width: int) -> Tensor:
    """Positions N,D (float32) of `count` tokens, numbered along the whole clip, as VideoMAE's.

    position[n, 2i] = sin(n / 10000^(2i / D)), position[n, 2i+1] = cos of the same angle
    (Vaswani et al. 2017, section 3.5); computed in float64 and rounded once.
    """
    pairs = torch.arange(width, dtype=torch.float64) // 2
    rates = torch.pow(torch.tensor(10000.0, dtype=torch.float64), -2 * pairs / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    even = torch.arange(width) % 2 == 0
    return torch.where(even, angles.sin(), angles.cos()).float()
