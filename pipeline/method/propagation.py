"""Assignments or labels carried from a clip's first frame to later ones, along similar features.

Label propagation, as for video object segmentation with frozen features (Jabri et al. 2020; Caron
et al. 2021), and as TimeTuning trains with it (Salehi et al. 2023): the assignment of a first
frame's patches is carried to the last frame, whose own scores then learn to say the same.

Shapes: T frames, H rows and W columns of N patches, S source frames, D values of a feature,
K classes or prototypes, O values of a feature that prototypes score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.method.capabilities import widest_float
from pipeline.method.collectives import AllReduce, alone
from pipeline.method.sigma import cosines
from pipeline.method.sinkhorn import transport


@dataclass(frozen=True)
class Propagation:
    """How a frame's patches look for their like in frames before it."""

    neighbourhood: int  # patches of a source that far away, in rows or columns, and no further
    memory: int  # frames before it that are sources, beside the first one
    neighbours: int  # of a patch, the most similar ones of all sources
    temperature: float = 0.1  # by which cosines are divided


@torch.no_grad()
def propagate(
    features: Tensor, first: Tensor, grid: tuple[int, int], settings: Propagation
) -> Tensor:
    """Carry soft labels `first` N,K of the first frame on: T-1,N,K, a frame after the other.

    `features` T,N,D may have any length. The soft labels of each frame are a source for the next.
    """
    directions = functional.normalize(features.float(), dim=-1)
    near = neighbours_within(grid, settings.neighbourhood, features.device)
    carried: list[Tensor] = []
    wide = widest_float(features.device)
    for frame in range(1, len(features)):
        sources = [0, *range(max(1, frame - settings.memory), frame)]
        weights = similarity_weights(directions[frame], directions[sources], near, settings)
        labels = torch.stack([first if source == 0 else carried[source - 1] for source in sources])
        mixed = weights.to(wide) @ labels.flatten(0, 1).to(wide)
        carried.append(mixed.to(first.dtype))
    return torch.stack(carried) if carried else first.new_empty(0, *first.shape)


def similarity_weights(
    target: Tensor, sources: Tensor, near: Tensor, settings: Propagation
) -> Tensor:
    """The weight N,SN of each source patch for each patch of a frame; rows sum to one.

    `target` N,D and `sources` S,N,D are of length one. Weights are exp(cosine / temperature) of the
    most similar patches among those that are `near` N,N, and 0 of all others.
    """
    weights = (torch.einsum("nd,smd->nsm", target, sources) / settings.temperature).exp()
    weights = (weights * near[:, None]).flatten(1)
    kept = min(settings.neighbours, weights.shape[1])
    least = weights.topk(kept, dim=1).values[:, -1:]
    weights = weights.where(weights >= least, 0)
    return weights / weights.sum(1, keepdim=True)


def neighbours_within(
    grid: tuple[int, int], distance: int, device: torch.device | None = None
) -> Tensor:
    """Whether patches N,N of a grid are at most so far from each other, in rows and in columns."""
    rows, columns = (torch.arange(side, device=device) for side in grid)
    places = torch.cartesian_prod(rows, columns)
    return ((places[:, None] - places).abs() <= distance).all(-1)


def assign_first(
    features: Tensor,
    prototypes: Tensor,
    *,
    epsilon: float,
    iterations: int,
    all_reduce: AllReduce = alone,
) -> Tensor:
    """Sinkhorn's soft assignment B,N,K of features B,N,O to prototypes K,O, of all clips at once.

    Prototypes are taken as they are. Rows sum to one.
    """
    with torch.no_grad():
        scores = cosines(features, prototypes)
        assigned = transport(scores.flatten(0, 1), epsilon, iterations, all_reduce)
    return assigned.to(scores.dtype).view_as(scores)


def propagated_loss(scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of scores B,N,K / temperature against labels B,N: mean over patches, clips."""
    return functional.cross_entropy((scores / temperature).flatten(0, 1), labels.flatten())


@torch.no_grad()
def follow_prototypes(teacher: Tensor, student: Tensor, share: float) -> Tensor:
    """The teacher's prototypes K,O after a step, of length one; `share` is the student's in it."""
    return functional.normalize(torch.lerp(teacher, student, share), dim=-1)
