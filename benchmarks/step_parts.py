"""Which functions of a training step belong to which part of it."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks.contenders import Ours
from pipeline.method import masked_video, swapped_assignment, tubes, vit
from pipeline.method.targets import projection
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.targets.projection import MlpProjection
from pipeline.training import loop

PARTS = (
    "preparation",  # of tubes and pixel targets, from bytes
    "teacher",
    "encoder",
    "decoder",
    "projection",
    "sinkhorn",
    "loss",  # scores, and most of their gradient, included
    "diagnostics",
    "backward",
    "optimiser",  # length of the gradient and prototypes included
    "other",
)


def places(ours: Ours) -> list[tuple[Any, str, str]]:
    """Owner, attribute and part of each function that is timed.

    What the others call is counted to them, but for what has a part of its own.
    """
    model, engine = ours.model, ours.engine
    found: list[tuple[Any, str, str]] = [
        (loop, "normalise", "preparation"),
        (masked_video, "split_masks", "preparation"),
        (tubes.TubeGrid, "split", "preparation"),
        (vit, "gather", "preparation"),
        (projection, "normalised_pixels", "preparation"),
        (projection, "gather", "preparation"),
        (model.target, "forward", "preparation"),
        (model.encoder, "outputs", "encoder"),
        (model, "decode", "decoder"),
        (swapped_assignment, "assign", "sinkhorn"),
        (masked_video, "masked_video_loss", "loss"),
        (loop, "masked_video_loss", "loss"),
        (masked_video, "feature_diagnostics", "diagnostics"),
        (swapped_assignment, "diagnostics_of", "diagnostics"),
        (engine, "backward", "backward"),
        (engine, "begin_step", "optimiser"),
        (engine, "step", "optimiser"),
    ]
    if isinstance(model.target, MlpProjection):
        found.append((model.target.network, "forward", "projection"))
    if isinstance(model.target, FrozenFeatures):
        network = model.target._held[0]
        assert isinstance(network, nn.Module)
        found.append((network, "forward", "teacher"))
    return found
