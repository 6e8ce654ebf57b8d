"""SIGMA's loss: each branch predicts the assignment of the other (paper, equation 6 onwards).

The branches are the decoder's predictions and the target network's features. Both are compared with
the prototypes, and assigned to them evenly by Sinkhorn-Knopp.

Shapes: N masked tubes of this process, O values of a feature, K prototypes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.method.capabilities import widest_float
from pipeline.method.collectives import AllReduce, alone
from pipeline.method.diagnostics import Diagnostics, assignment_diagnostics
from pipeline.method.log_partition import mean_log_partition
from pipeline.method.losses import SinkhornLoss
from pipeline.method.sigma import Prediction, directions
from pipeline.method.sinkhorn import assign

COSINE = 1.005  # no cosine is larger, rounding errors of bfloat16 products included


class Assignments(NamedTuple):
    """The prototype of each masked tube, int64 N, by the features of either branch."""

    decoded: Tensor
    target: Tensor


def swapped_loss(
    prediction: Prediction,
    settings: SinkhornLoss,
    all_reduce: AllReduce = alone,
    assignments: Assignments | None = None,
) -> tuple[Tensor, Diagnostics]:
    """Sum of two cross-entropies, each branch's scores against the other's assignment.

    loss = w CE(target scores / t, decoder's assignment) + CE(decoder's scores / t, target's
    assignment), t being the temperature, w the target branch's weight, which is 1 in the paper;
    assignments carry no gradient. Without `assignments`
    Sinkhorn finds those of this batch, and there are diagnostics of them.
    """
    prototypes, temperature = prediction.prototypes, settings.temperature
    if prototypes is None:
        raise ValueError("loss 'sinkhorn' needs a model with prototypes")
    with torch.autocast(prototypes.device.type, enabled=False):
        decoded, target = (directions(part.flatten(0, 1)) for part in prediction[:2])
    branches = ((decoded, prototypes.detach()), (target, prototypes))
    diagnostics: Diagnostics = {}
    partitions: list[Tensor] = []
    assigned: list[Tensor] = []
    scores = decoded.new_empty(len(decoded), len(prototypes)) if assignments is None else None
    for features, points in branches:  # one after the other, in the same N x K numbers
        partitions.append(mean_log_partition(features, points, temperature, scores))
        if scores is not None:
            assigned.append(assign_cosines(scores, settings, all_reduce))
    if assignments is None:
        assignments = Assignments(*assigned)
        diagnostics = diagnostics_of(assignments, len(prototypes), all_reduce)
    losses: list[Tensor] = []
    for partition, (features, points), labels in zip(
        partitions, branches, reversed(assignments), strict=True
    ):
        agreement = (features * points.index_select(0, labels)).sum(1).mean()
        losses.append(partition - agreement / temperature)
    return losses[0] + settings.target_weight * losses[1], diagnostics


def assign_cosines(scores: Tensor, settings: SinkhornLoss, all_reduce: AllReduce) -> Tensor:
    """Sinkhorn's assignment, int64 N, of cosines N,K, which it overwrites."""
    epsilon, iterations = settings.epsilon, settings.iterations
    return assign(scores, epsilon, iterations, all_reduce, bound=COSINE, overwrite=True)


def diagnostics_of(assignments: Assignments, prototypes: int, all_reduce: AllReduce) -> Diagnostics:
    """How this batch's tubes, those of all processes, are spread over the prototypes."""
    counts = torch.stack([_histogram(a, prototypes) for a in assignments])
    agreeing = (assignments.decoded == assignments.target).sum()
    return assignment_diagnostics(counts, agreeing, all_reduce)


def _histogram(labels: Tensor, length: int) -> Tensor:
    """How often each of 0 to `length` - 1 occurs; `torch.bincount` would wait for a device."""
    counts = torch.zeros(length, dtype=widest_float(labels.device), device=labels.device)
    return counts.scatter_add_(0, labels, torch.ones_like(labels, dtype=counts.dtype))
