"""torch.hub's entry points, from this folder as from a repository."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Run
from pipeline.method.sigma import SigmaModel
from pipeline.weights import hub


@pytest.fixture
def checkpoint(tmp_path: Path, untrained: tuple[SigmaModel, Run, Clip]) -> Path:
    path = tmp_path / "model.safetensors"
    model, run, clip = untrained
    hub.save(path, model, run, clip)
    return path


@pytest.fixture
def untrained() -> tuple[SigmaModel, Run, Clip]:
    import yaml

    from pipeline.configuration.composition import compose
    from pipeline.configuration.schema import Params

    params = Params.model_validate(yaml.safe_load(compose(["experiment=tiny"])))
    run, clip = params.runs["pixel"], params.data.clip
    return sigma_model(run.model, run.objective, clip).eval(), run, clip


def test_a_checkpoint_is_loaded(
    project: Path, checkpoint: Path, untrained: tuple[SigmaModel, Run, Clip]
) -> None:
    """Catches an entry point that is not found, or gives a model with other weights."""
    model = torch.hub.load(str(project), "load", str(checkpoint), source="local", stride=3)
    videos = torch.randn(1, 3, *model.encoder.grid.clip_shape)
    assert torch.equal(model.tokens(videos), untrained[0].encoder(videos))
    assert model.clip.stride == 3


def test_new_encoders_have_the_published_sizes(project: Path) -> None:
    """ViT-S without a head: 21.9 million parameters; all four entry points are listed."""
    with torch.device("meta"):
        encoder = torch.hub.load(str(project), "vit_small", source="local")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 21_879_936
    defined = ast.parse((project / "hubconf.py").read_text(encoding="utf-8")).body
    names = {node.name for node in defined if isinstance(node, ast.FunctionDef)}
    assert {"load", "vit_small", "vit_base", "vit_large", "vit_huge"} <= names
