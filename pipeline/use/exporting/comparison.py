"""How far an exported model may be from the one that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.weights.video_model import VideoModel

LIMIT = 1e-4  # largest absolute difference of a feature


@dataclass(frozen=True)
class Expected:
    """What a model says of some clips B,3,T,H,W."""

    videos: Tensor
    tokens: Tensor  # B,N,D
    pooled: Tensor  # B,D
    logits: Tensor | None  # B,C where the model has a head


@torch.inference_mode()
def expected(model: VideoModel, videos: Tensor) -> Expected:
    """Compute it, in float32 on the CPU."""
    model = model.float().cpu().eval()
    logits = None if model.classifier is None else model.classifier(videos)
    return Expected(videos, model.tokens(videos), model.pooled(videos), logits)


def largest(expected: Tensor, actual: Tensor) -> float:
    """Return the largest absolute difference; infinity for other shapes and for NaN."""
    if expected.shape != actual.shape or not bool(torch.isfinite(actual).all()):
        return float("inf")
    return float((expected.double() - actual.double()).detach().abs().max())


def refuse_if_far(differences: Mapping[str, float], reader: str) -> None:
    """Raise UserError where a difference is above LIMIT."""
    far = {name: value for name, value in differences.items() if not value <= LIMIT}
    if far:
        names = ", ".join(f"{name} {value:.2g}" for name, value in far.items())
        raise UserError(
            f"the exported model is another one for {reader}: largest difference of {names}, "
            f"where {LIMIT:g} is allowed",
            remedy="nothing was written; please report this with the versions of "
            "`pip list` and the checkpoint's kind",
        )
