"""The losses on masked videos: SIGMA's swapped cross-entropies, and mean squared error.

Paper, section 3.2 and equation 6 onwards: each branch (decoder and target network) predicts the
assignment of the other. Every loss is the mean over this process's tubes. As processes hold
equally many, the mean of their gradients (as DDP takes it) is the gradient of the global mean:
one process with 2B clips and two with B take the same step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from pipeline.configuration.schema import Objective
from pipeline.method.collectives import AllReduce, over
from pipeline.method.log_partition import mean_log_partition
from pipeline.method.sigma import Prediction, SigmaModel, cosines, directions
from pipeline.method.sinkhorn import assign
from pipeline.method.tubes import split_mask

COSINE = 1.005  # no cosine is larger, rounding errors of bfloat16 products included

Diagnostics = dict[str, Tensor]


class Assignments(NamedTuple):
    """The prototype of each masked tube, int64 B*M, by the features of either branch."""

    decoded: Tensor
    target: Tensor


def masked_video_loss(
    model: nn.Module,
    videos: Tensor,
    mask: Tensor,
    objective: Objective,
    group: dist.ProcessGroup | None = None,
    *,
    assignments: Assignments | None = None,
    normalise: bool = True,
) -> tuple[Tensor, Diagnostics]:
    """One step's loss (scalar) and diagnostics (scalars, equal on all processes of `group`).

    `model` is a `SigmaModel` or a wrapper of one; `videos` B,3,T,H,W are normalised, `mask` is B,N
    bool (true is masked). Prototypes are first brought back to length one, in place, but with
    `normalise=False`: then they are. `assignments` (of `assign_parts`) take the place of those
    that Sinkhorn finds for this batch; diagnostics are then empty: `assign_parts` gave them.
    """
    sigma = getattr(model, "module", model)
    if not isinstance(sigma, SigmaModel):
        raise TypeError(f"a SigmaModel is needed, not {type(sigma).__name__}")
    if normalise:
        sigma.normalise_prototypes()
    prediction: Prediction = model(videos, split_mask(mask))
    all_reduce = over(group)
    if objective.loss == "sinkhorn":
        loss, diagnostics = sinkhorn_loss(prediction, objective, all_reduce, assignments)
    else:
        loss = functional.mse_loss(prediction.decoded.float(), prediction.targets.float())
        diagnostics = {}
    if assignments is None:
        diagnostics |= feature_diagnostics(prediction, all_reduce)
    return loss, diagnostics


def sinkhorn_loss(
    prediction: Prediction,
    objective: Objective,
    all_reduce: AllReduce,
    assignments: Assignments | None = None,
) -> tuple[Tensor, Diagnostics]:
    """Sum of two cross-entropies, each branch's scores against the other's assignment.

    loss = CE(target scores / t, decoder's assignment) + CE(decoder's scores / t, target's
    assignment), t being the temperature; assignments carry no gradient.
    """
    prototypes = prediction.prototypes
    if prototypes is None:
        raise ValueError("loss 'sinkhorn' needs a model with prototypes")
    with torch.autocast(prototypes.device.type, enabled=False):
        decoded, target = (directions(part.flatten(0, 1)) for part in prediction[:2])
    branches = ((decoded, prototypes.detach()), (target, prototypes))
    diagnostics: Diagnostics = {}
    losses: list[Tensor] = []
    partitions: list[Tensor] = []
    found: list[Tensor] = []
    scores = decoded.new_empty(len(decoded), len(prototypes)) if assignments is None else None
    for features, points in branches:  # one after the other, in the same N x K numbers
        partitions.append(mean_log_partition(features, points, objective.temperature, scores))
        if scores is not None:
            found.append(assign_cosines(scores, objective, all_reduce, overwrite=True))
    if assignments is None:
        assignments = Assignments(*found)
        diagnostics = _diagnostics_of(assignments, len(prototypes), all_reduce)
    for partition, (features, points), labels in zip(
        partitions, branches, reversed(assignments), strict=True
    ):
        agreement = (features * points.index_select(0, labels)).sum(1).mean()
        losses.append(partition - agreement / objective.temperature)
    return losses[0] + losses[1], diagnostics


def assign_cosines(
    scores: Tensor, objective: Objective, all_reduce: AllReduce, *, overwrite: bool = False
) -> Tensor:
    """Sinkhorn's assignment of cosines N,K with the objective's settings."""
    return assign(
        scores,
        objective.epsilon,
        objective.iterations,
        all_reduce,
        bound=COSINE,
        overwrite=overwrite,
    )


def _diagnostics_of(
    assignments: Assignments, prototypes: int, all_reduce: AllReduce
) -> Diagnostics:
    counts = torch.stack([_histogram(a, prototypes) for a in assignments])
    agreeing = (assignments.decoded == assignments.target).sum()
    return assignment_diagnostics(counts, agreeing, all_reduce)


def _histogram(labels: Tensor, length: int) -> Tensor:
    """How often each of 0 to `length` - 1 occurs; `torch.bincount` would wait for a device."""
    counts = torch.zeros(length, dtype=torch.float64, device=labels.device)
    return counts.scatter_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))


@torch.no_grad()
def assign_parts(
    model: nn.Module,
    parts: Iterable[tuple[Tensor, Tensor, int]],
    objective: Objective,
    group: dist.ProcessGroup | None = None,
) -> tuple[list[Assignments], Diagnostics]:
    """Assign the tubes of a batch that is computed in parts as if it were computed at once.

    A part is videos and a mask, as in `masked_video_loss`, and how many of its first clips count:
    0 where one stands in for clips that failed, since processes call the model equally often.
    Prototypes are of length one. One Sinkhorn runs over all parts and all processes of `group`.
    Returns the assignments of each part and the diagnostics of the whole.

    It costs a forward pass more, of which only the features are kept.
    """
    features: list[tuple[Tensor, Tensor]] = []
    stand_ins: dict[int, int] = {}  # part -> tubes that do not count
    for number, (videos, mask, count) in enumerate(parts):
        prediction: Prediction = model(videos, split_mask(mask))
        kept = (prediction.decoded[:count].flatten(0, 1), prediction.targets[:count].flatten(0, 1))
        features.append(kept)
        if not count:
            stand_ins[number] = int(mask.sum())
    prototypes = prediction.prototypes
    if prototypes is None:
        raise ValueError("only a model with prototypes can assign tubes to them")
    whole = [torch.cat(branch) for branch in zip(*features, strict=True)]
    all_reduce = over(group)
    assigned = Assignments(
        *(
            assign_cosines(cosines(part, prototypes), objective, all_reduce, overwrite=True)
            for part in whole
        )
    )
    diagnostics = _diagnostics_of(assigned, len(prototypes), all_reduce)
    together = Prediction(whole[0][None], whole[1][None], None)
    diagnostics |= feature_diagnostics(together, all_reduce)
    sizes = [len(decoded) for decoded, _ in features]
    each = [
        Assignments(*part) for part in zip(*(torch.split(b, sizes) for b in assigned), strict=True)
    ]
    for number, tubes in stand_ins.items():
        each[number] = Assignments(*(branch.new_zeros(tubes) for branch in assigned))
    return each, diagnostics


def assignment_diagnostics(counts: Tensor, agreeing: Tensor, all_reduce: AllReduce) -> Diagnostics:
    """How the tubes are spread, from how many of each branch (2,K) each prototype got.

    `prototypes_used`: share of prototypes that either branch uses; `assignment_entropy`: of the
    target branch's use of prototypes, from 0 (one prototype: collapsed) to 1 (the most even that
    as many tubes can be); `branch_agreement`: share of tubes that both branches assign alike.
    """
    counts = all_reduce(counts.double(), "sum")
    tubes = counts[0].sum()
    share = counts[1] / tubes
    evenest = torch.minimum(tubes, tubes.new_tensor(counts.shape[1])).clamp(min=2).log()
    return {
        "prototypes_used": (counts.sum(0) > 0).double().mean(),
        "assignment_entropy": -torch.xlogy(share, share).sum() / evenest,
        "branch_agreement": all_reduce(agreeing.double(), "sum") / tubes,
    }


@torch.no_grad()
def feature_diagnostics(prediction: Prediction, all_reduce: AllReduce) -> Diagnostics:
    """Length and direction of predictions and of targets, over the tubes of all processes.

    `feature_norm`, `target_norm`: mean length. `feature_alignment`, `target_alignment`: squared
    length of the mean of the features scaled to length one, which is the mean cosine of two tubes
    drawn at random (Wang and Isola 2020 call its opposite uniformity): 0 where they point all ways,
    1 where they all point the same.
    """
    features = [part.detach().float().flatten(0, 1) for part in prediction[:2]]  # each B*M,O
    lengths = [part.norm(dim=1).double().sum() for part in features]
    directions = [functional.normalize(part, dim=1).double().sum(0) for part in features]
    count = lengths[0].new_full((1,), len(features[0]))
    local = torch.cat((torch.stack(lengths), count, *directions))
    totals = all_reduce(local, "sum")
    decoded, target, tubes = totals[:3]
    means = (totals[3:] / tubes).chunk(2)
    return {
        "feature_norm": decoded / tubes,
        "target_norm": target / tubes,
        "feature_alignment": means[0].square().sum(),
        "target_alignment": means[1].square().sum(),
    }
