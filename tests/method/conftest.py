"""Small settings for models; the tube is not square, so that nothing is wired to 16 pixels."""

from __future__ import annotations

import pytest
import yaml

from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Model, Objective, Params, Run
from pipeline.method.losses import MseLoss
from pipeline.method.masks import RandomMask
from pipeline.method.targets import MlpTarget, PixelTarget


@pytest.fixture(scope="session")
def clip() -> Clip:
    return Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(
        name="small",
        tube=(2, 4, 8),
        width=24,
        depth=2,
        heads=3,
        mlp_ratio=2.0,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=2,
    )


@pytest.fixture(scope="session")
def sinkhorn() -> Objective:
    return Objective(
        name="sigma_mlp",
        target=MlpTarget(kind="mlp", hidden=(20,), width=12),
        loss="sinkhorn",
        mask=RandomMask(ratio=0.75),
        prototypes=6,
        epsilon=0.05,
        iterations=5,
        temperature=0.1,
    )


@pytest.fixture(scope="session")
def pixel(sinkhorn: Objective) -> Objective:
    target = PixelTarget(kind="pixel")
    return sinkhorn.model_copy(update={"target": target, "loss": MseLoss()})


@pytest.fixture(scope="session")
def run(model: Model, sinkhorn: Objective) -> Run:
    """A run of the tiny experiment, with these settings."""
    params = Params.model_validate(yaml.safe_load(compose(["experiment=tiny"])))
    trainer = params.runs["sigma_mlp"].trainer
    return Run(model=model, objective=sinkhorn, trainer=trainer)
