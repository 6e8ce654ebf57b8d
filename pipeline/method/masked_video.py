"""One step's loss on masked videos, of a batch computed at once or in parts.

Shapes: B clips, T frames, H and W pixels, N tubes of a clip.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pipeline.method.collectives import over
from pipeline.method.diagnostics import Diagnostics, feature_diagnostics
from pipeline.method.losses import Loss, SinkhornLoss
from pipeline.method.sigma import Prediction, SigmaModel, cosines
from pipeline.method.swapped_assignment import Assignments, assign_cosines, diagnostics_of
from pipeline.method.tubes import split_masks


def masked_video_loss(
    model: nn.Module,
    videos: Tensor,
    mask: Tensor,
    loss: Loss,
    group: dist.ProcessGroup | None = None,
    *,
    assignments: Assignments | None = None,
    normalise: bool = True,
) -> tuple[Tensor, Diagnostics]:
    """One step's loss (scalar) and diagnostics (scalars, equal on all processes of `group`).

    `model` is a `SigmaModel` or a wrapper of one; `videos` B,3,T,H,W are normalised, `mask` is B,N
    or B,R,N (`tubes.split_masks`): of several kinds of mask the mean is taken, of several targets
    the weighted sum. Prototypes are first brought back to length one, in place, but with
    `normalise=False`: then they are. `assignments` (of `assign_parts`) take the place of those that
    Sinkhorn finds for this batch; diagnostics are then empty: `assign_parts` gave them.
    """
    sigma = getattr(model, "module", model)
    if not isinstance(sigma, SigmaModel):
        raise TypeError(f"a SigmaModel is needed, not {type(sigma).__name__}")
    if normalise:
        sigma.normalise_prototypes()
    predictions: list[Prediction] = model(videos, split_masks(mask, sigma.mask_kinds))
    all_reduce = over(group)
    values, each = [], []
    for prediction in predictions:
        value, diagnostics = loss(prediction, all_reduce, assignments)
        if assignments is None:
            diagnostics |= feature_diagnostics(prediction.decoded, prediction.targets, all_reduce)
        if prediction.weight != 1:
            value = prediction.weight * value
        masks_own = sigma.mask.loss(prediction) if sigma.mask is not None else None
        values.append(value if masks_own is None else value + masks_own)
        each.append(diagnostics)
    return len(sigma.branches) * _mean(values), {
        name: _mean([part[name] for part in each]) for name in each[0]
    }


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()


@torch.no_grad()
def assign_parts(
    model: nn.Module,
    parts: Iterable[tuple[Tensor, Tensor, int]],
    loss: SinkhornLoss,
    group: dist.ProcessGroup | None = None,
) -> tuple[list[Assignments], Diagnostics]:
    """Assign the tubes of a batch that is computed in parts as if it were computed at once.

    A part is videos and a mask, as in `masked_video_loss`, and how many of its clips count: all, or
    0 where one stands in for clips that failed, since processes call the model equally often.
    Prototypes are of length one. One Sinkhorn runs over all parts and all processes of `group`.
    Returns the assignments of each part and the diagnostics of the whole.

    It costs a forward pass more, of which only the features are kept.
    """
    features: list[tuple[Tensor, Tensor]] = []
    stand_ins: dict[int, int] = {}  # part -> tubes that do not count
    for number, (videos, mask, count) in enumerate(parts):
        (prediction,) = model(videos, split_masks(mask))
        decoded, targets = (p.flatten(0, 1) for p in (prediction.decoded, prediction.targets))
        if not count:
            stand_ins[number] = len(decoded)
            decoded, targets = decoded[:0], targets[:0]
        features.append((decoded, targets))
    prototypes = prediction.prototypes
    if prototypes is None:
        raise ValueError("only a model with prototypes can assign tubes to them")
    whole = [torch.cat(branch) for branch in zip(*features, strict=True)]
    all_reduce = over(group)
    assigned = Assignments(
        *(assign_cosines(cosines(part, prototypes), loss, all_reduce) for part in whole)
    )
    diagnostics = diagnostics_of(assigned, len(prototypes), all_reduce)
    diagnostics |= feature_diagnostics(whole[0], whole[1], all_reduce)
    sizes = [len(decoded) for decoded, _ in features]
    each = [
        Assignments(*part) for part in zip(*(torch.split(b, sizes) for b in assigned), strict=True)
    ]
    for number, tubes in stand_ins.items():
        each[number] = Assignments(*(branch.new_zeros(tubes) for branch in assigned))
    return each, diagnostics
