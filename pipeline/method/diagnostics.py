"""Numbers that tell of a collapse: how features and assignments are spread, over all processes.

Shapes: B clips, M masked tubes of each, O values of a feature, K prototypes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.method.capabilities import widest_float
from pipeline.method.collectives import AllReduce

Diagnostics = dict[str, Tensor]


def assignment_diagnostics(counts: Tensor, agreeing: Tensor, all_reduce: AllReduce) -> Diagnostics:
    """How the tubes are spread, from how many of each branch (2,K) each prototype got.

    `prototypes_used`: share of prototypes that either branch uses; `assignment_entropy`: of the
    target branch's use of prototypes, from 0 (one prototype: collapsed) to 1 (the most even that
    as many tubes can be); `largest_prototype`: share of the tubes that the target branch assigns to
    the prototype with the most; `branch_agreement`: share of tubes that both branches assign alike.
    """
    wide = widest_float(counts.device)
    counts = all_reduce(counts.to(wide), "sum")
    tubes = counts[0].sum()
    share = counts[1] / tubes
    evenest = tubes.clamp(2, counts.shape[1]).log()
    return {
        "prototypes_used": (counts.sum(0) > 0).to(wide).mean(),
        "assignment_entropy": -torch.xlogy(share, share).sum() / evenest,
        "largest_prototype": share.max(),
        "branch_agreement": all_reduce(agreeing.to(wide), "sum") / tubes,
    }


@torch.no_grad()
def feature_diagnostics(decoded: Tensor, targets: Tensor, all_reduce: AllReduce) -> Diagnostics:
    """Length and direction of predictions and of targets ...,O, over the tubes of all processes.

    `feature_norm`, `target_norm`: mean length. `feature_alignment`, `target_alignment`: squared
    length of the mean of the features scaled to length one, which is the mean cosine of two tubes
    drawn at random (Wang and Isola 2020 call its opposite uniformity): 0 where they point all ways,
    1 where they all point the same.
    """
    features = [part.detach().float().flatten(0, -2) for part in (decoded, targets)]
    wide = widest_float(decoded.device)
    lengths = [part.norm(dim=1).to(wide).sum() for part in features]
    directions = [functional.normalize(part, dim=1).to(wide).sum(0) for part in features]
    count = lengths[0].new_full((1,), len(features[0]))
    local = torch.cat((torch.stack(lengths), count, *directions))
    totals = all_reduce(local, "sum")
    length, target_length, tubes = totals[:3]
    means = (totals[3:] / tubes).chunk(2)
    return {
        "feature_norm": length / tubes,
        "target_norm": target_length / tubes,
        "feature_alignment": means[0].square().sum(),
        "target_alignment": means[1].square().sum(),
    }
