"""Small settings for models; the tube is not square, so that nothing is wired to 16 pixels."""

from __future__ import annotations

import pytest
import yaml

from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Model, Objective, Params, Run
from pipeline.method.losses import MseLoss, SinkhornLoss
from pipeline.method.targets import PixelTarget
from tests import small_models


@pytest.fixture(scope="session")
def clip() -> Clip:
    return small_models.CLIP


@pytest.fixture(scope="session")
def model() -> Model:
    return small_models.model(tube=(2, 4, 8), depth=2, heads=3)


@pytest.fixture(scope="session")
def sinkhorn() -> Objective:
    loss = SinkhornLoss(prototypes=6, epsilon=0.05, iterations=5, temperature=0.1)
    return small_models.SINKHORN.model_copy(update={"loss": loss})


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
