"""The losses on masked videos: SIGMA's swapped cross-entropies, and mean squared error.

Paper, section 3.2 and equation 6 onwards: each branch (decoder and target network) predicts the
assignment of the other. Every loss is the mean over this process's tubes. As processes hold
equally many, the mean of their gradients (as DDP takes it) is the gradient of the global mean:
one process with 2B clips and two with B take the same step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from pipeline.configuration.schema import Objective
from pipeline.models.sigma import Prediction, SigmaModel
from pipeline.objectives.collectives import AllReduce, over
from pipeline.objectives.sinkhorn import assign

Diagnostics = dict[str, Tensor]


def masked_video_loss(
    model: nn.Module,
    videos: Tensor,
    mask: Tensor,
    objective: Objective,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Diagnostics]:
    """One step's loss (scalar) and diagnostics (scalars, equal on all processes of `group`).

    `model` is a `SigmaModel` or a DDP wrapper of one; `videos` B,3,T,H,W are normalised, `mask`
    is B,N bool (true is masked). Prototypes are first brought back to length one, in place.
    """
    sigma = getattr(model, "module", model)
    if not isinstance(sigma, SigmaModel):
        raise TypeError(f"a SigmaModel is needed, not {type(sigma).__name__}")
    sigma.normalise_prototypes()
    prediction: Prediction = model(videos, mask)
    all_reduce = over(group)
    if objective.loss == "sinkhorn":
        loss, diagnostics = sinkhorn_loss(prediction, objective, all_reduce)
    else:
        loss = functional.mse_loss(prediction.decoded.float(), prediction.targets.float())
        diagnostics = {}
    return loss, diagnostics | feature_diagnostics(prediction, all_reduce)


def sinkhorn_loss(
    prediction: Prediction, objective: Objective, all_reduce: AllReduce
) -> tuple[Tensor, Diagnostics]:
    """Sum of two cross-entropies, each branch's scores against the other's assignment.

    loss = CE(target scores / t, decoder's assignment) + CE(decoder's scores / t, target's
    assignment), t being the temperature; assignments carry no gradient.
    """
    if prediction.decoded_scores is None or prediction.target_scores is None:
        raise ValueError("loss 'sinkhorn' needs a model with prototypes")
    decoded = prediction.decoded_scores.flatten(0, 1)
    target = prediction.target_scores.flatten(0, 1)
    settings = (objective.epsilon, objective.iterations, all_reduce)
    decoded_assignment, target_assignment = assign(decoded, *settings), assign(target, *settings)
    loss = functional.cross_entropy(
        target.float() / objective.temperature, decoded_assignment
    ) + functional.cross_entropy(decoded.float() / objective.temperature, target_assignment)
    assignments = (decoded_assignment, target_assignment)
    counts = torch.stack([torch.bincount(a, minlength=decoded.shape[1]) for a in assignments])
    agreeing = (decoded_assignment == target_assignment).sum()
    return loss, assignment_diagnostics(counts, agreeing, all_reduce)


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
