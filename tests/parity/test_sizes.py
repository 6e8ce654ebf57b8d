"""The published sizes: parameter counts of the whole pretraining model (design facts)."""

from __future__ import annotations

import pytest
import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.method.masks import TubeMask
from pipeline.method.targets import FrozenTarget, MlpTarget

# name: width, depth, heads, decoder width, decoder heads
SIZES = {
    "S": (384, 12, 6, 192, 3),
    "B": (768, 12, 12, 384, 6),
    "L": (1024, 24, 16, 512, 8),
    "H": (1280, 32, 16, 640, 8),
}
MLP = {"S": 27_829_952, "B": 97_765_760, "L": 321_172_992, "H": 656_331_392}
FEATURES = {"S": 26_185_152, "B": 96_219_264, "L": 319_692_032, "H": 654_915_968}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", ["mlp", "dino"])
def test_parameter_counts(size: str, target: str) -> None:
    """A bias too many, a key bias, a class token or a teacher counted as ours would show here."""
    width, depth, heads, decoder_width, decoder_heads = SIZES[size]
    model = Model(
        name=size,
        tube=(2, 16, 16),
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=4.0,
        decoder_width=decoder_width,
        decoder_depth=4,
        decoder_heads=decoder_heads,
    )
    objective = Objective(
        name=target,
        target=MlpTarget(kind="mlp", hidden=(1024, 1024, 512), width=256)
        if target == "mlp"
        else FrozenTarget(model="vit_base_patch16_224.dino"),
        loss="sinkhorn",
        mask=TubeMask(ratio=0.9),
        prototypes=3000,
        epsilon=0.05,
        iterations=10,
        temperature=0.1,
    )
    clip = Clip(frames=16, stride=4, size=224, scales=(1.0,), flip=True)
    with torch.device("meta"):
        sigma = sigma_model(model, objective, clip, load_target=False)
    counted = sum(parameter.numel() for parameter in sigma.parameters())
    assert counted == (MLP if target == "mlp" else FEATURES)[size]
