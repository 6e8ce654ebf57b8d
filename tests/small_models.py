"""Models and clips so small that a step takes milliseconds."""

from __future__ import annotations

from typing import Any

from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.method.losses import SinkhornLoss
from pipeline.method.masks import RandomMask
from pipeline.method.targets import MlpTarget

CLIP = Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)
MODEL = Model(
    name="small",
    tube=(2, 8, 8),
    width=24,
    depth=1,
    heads=2,
    mlp_ratio=2.0,
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=2,
)
SINKHORN = Objective(
    name="sigma_mlp",
    target=MlpTarget(kind="mlp", hidden=(20,), width=12),
    loss=SinkhornLoss(prototypes=8, epsilon=0.05, iterations=6, temperature=0.1),
    mask=RandomMask(ratio=0.75),
)


def clip(**changes: Any) -> Clip:
    """Return the small clip with other values."""
    return Clip.model_validate(CLIP.model_dump() | changes)


def model(**changes: Any) -> Model:
    """Return the small model with other values."""
    return Model.model_validate(MODEL.model_dump() | changes)
