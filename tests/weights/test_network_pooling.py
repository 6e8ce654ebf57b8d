"""What a network of images makes of a whole image by itself: as Transformers and timm give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.configuration import build, composition, known_weights
from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Run
from pipeline.errors import UserError
from pipeline.method.pixels import normalise
from pipeline.method.pooling import Pooled
from pipeline.runtime.operations import forward_operations
from pipeline.runtime.optimisers import layer_of
from pipeline.weights import encoders, hub
from pipeline.weights.classifier import Classifier
from tests.weights.test_networks import (
    CLIP,
    IMAGES,
    LIBRARY,
    OTHER,
    TIMM,
    Library,
    of,
    saved,
    untrained,
    with_texts,
)

transformers = pytest.importorskip("transformers", reason="Transformers is missing")
PROJECTED = 20  # numbers in the space that images share with texts
OWN = {
    "CLIP": Library(lambda: with_texts("CLIPConfig")(), "CLIPModel"),
    "CLIP of another projection": Library(
        lambda: transformers.CLIPConfig(
            **LIBRARY["CLIP"].config().to_dict() | {"projection_dim": PROJECTED}
        ),
        "CLIPModel",
    ),
    "CLIP's image encoder, projected": Library(
        of("CLIPVisionConfig", **IMAGES, projection_dim=PROJECTED), "CLIPVisionModelWithProjection"
    ),
    "SigLIP's image encoder": Library(of("SiglipVisionConfig", **IMAGES), "SiglipVisionModel"),
    **{name: LIBRARY[name] for name in ("SigLIP", "CLIP's image encoder")},
    **{name: each for name, each in LIBRARY.items() if name.startswith("DINO")},
}


@torch.no_grad()
def of_the_library(name: str, model: Any, videos: Tensor) -> Tensor:
    """The mean over frames of what the library says of each: B,D of bytes B,T,H,W,3."""
    mean, std = (torch.tensor(values)[:, None, None] for values in OTHER)
    pixels = ((videos.permute(0, 1, 4, 2, 3) / 255 - mean) / std).flatten(0, 1)
    pooled: Tensor
    if hasattr(model, "get_image_features"):
        pooled = model.get_image_features(pixel_values=pixels).pooler_output
    elif name == "DINO":  # whose pooler is of a supervised training
        pooled = model(pixels).last_hidden_state[:, 0]
    else:
        output = model(pixels)
        pooled = output.image_embeds if "projected" in name else output.pooler_output
    return pooled.unflatten(0, videos.shape[:2]).mean(1)


def own_of(run: Run, folder: Path) -> Run:
    """A run that takes these weights with their own pooling."""
    known = known_weights.known(folder, "own")
    assert known is not None
    return untrained(run, model=known.model, weights=str(folder), pooling="own")


@pytest.mark.parametrize("name", OWN)
def test_features_are_those_of_the_library(tmp_path: Path, run: Run, name: str) -> None:
    """Catches the mean of patches under another name, a head as it was initialised, a projection
    of another width, and patches that are no longer the library's."""
    model = saved(OWN[name], tmp_path / "theirs")
    videos = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    expected = of_the_library(name, model, videos)
    own_run = own_of(run, tmp_path / "theirs")
    torch.manual_seed(1)
    sigma = sigma_model(own_run.model, own_run.objective, CLIP).eval()
    assert encoders.fill(sigma.encoder, own_run, CLIP).kind.endswith("pooled by itself")
    hub.save(tmp_path / "model.safetensors", sigma, own_run, CLIP)
    again = hub.load(tmp_path / "model.safetensors")
    with torch.no_grad():
        for encoder in (sigma.encoder, again.encoder):
            pooled = Pooled(encoder)(normalise(videos))
            assert pooled.shape[1] == Pooled(encoder).width
            torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)
        tokens = hub.load(tmp_path / "theirs", frames=4, size=32).tokens(normalise(videos))
        torch.testing.assert_close(again.tokens(normalise(videos)), tokens, rtol=0, atol=1e-5)
        assert expected.shape[1] != tokens.shape[2] or not torch.allclose(
            tokens.mean(1), expected, atol=1e-3
        )
    assert forward_operations(Pooled(again.encoder), (1, 3, 4, 32, 32)) > 0


@pytest.mark.parametrize("name", ["CLIP", "SigLIP"])
def test_a_head_that_is_missing_is_named(tmp_path: Path, run: Run, name: str) -> None:
    """Catches features of a pooling that nobody has trained."""
    saved(OWN[name], tmp_path)
    own_run = own_of(run, tmp_path)
    encoder = build.encoder(own_run.model, CLIP)
    weights = load_file(tmp_path / "model.safetensors")
    gone = {"CLIP": "visual_projection.weight", "SigLIP": "vision_model.head.probe"}[name]
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"missing: .*{gone.removeprefix('vision_model.')}"):
        encoders.fill(encoder, own_run, CLIP)
    mean = known_weights.known(tmp_path)
    assert mean is not None
    without = untrained(run, model=mean.model, weights=str(tmp_path))
    encoders.fill(build.encoder(mean.model, CLIP), without, CLIP)  # the mean needs none


@pytest.mark.parametrize("name", TIMM)
def test_folders_of_timm(tmp_path: Path, run: Run, name: str) -> None:
    """Catches a pooling or a norm behind it other than those that timm itself gives the folder."""
    import timm
    from timm.models import save_for_hf

    architecture, arguments = TIMM[name]
    small = {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 32, **arguments}
    torch.manual_seed(0)
    theirs = timm.create_model(architecture, num_classes=5, **small).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    data = {"mean": OTHER[0], "std": OTHER[1], "input_size": (3, 32, 32)}
    folder = tmp_path / "theirs"
    save_for_hf(theirs, folder, model_args=small, safe_serialization=True, data_config=data)
    again = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    videos = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in OTHER)
    own_run = own_of(run, folder)
    sigma = sigma_model(own_run.model, own_run.objective, CLIP).eval()
    encoders.fill(sigma.encoder, own_run, CLIP)
    hub.save(tmp_path / "model.safetensors", sigma, own_run, CLIP)
    with torch.no_grad():
        pixels = (videos.permute(0, 1, 4, 2, 3) / 255 - mean).div(std).flatten(0, 1)
        expected = again(pixels).unflatten(0, (2, 4)).mean(1)
        pooled = hub.load(tmp_path / "model.safetensors").pooled(normalise(videos))
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["CLIP of another projection", "SigLIP", "DINOv2"])
def test_fine_tuning_trains_what_pools(tmp_path: Path, run: Run, name: str) -> None:
    """Catches a head for features of another width, a pooling that is not the network's, and one
    that learns at an early layer's rate."""
    saved(OWN[name], tmp_path)
    model = own_of(run, tmp_path).model
    classifier = Classifier(model, CLIP, classes=3)
    videos = torch.randn(2, 3, 4, 32, 32)
    assert classifier(videos).shape == (2, 3)
    pooled = classifier.encoder.pooled(videos)
    torch.testing.assert_close(classifier.features(videos), classifier.fc_norm(pooled))
    layers = {each: layer_of(each, model.depth) for each, _ in classifier.named_parameters()}
    assert set(layers.values()) == {0, 1, 2, 3}
    behind = [n for n in layers if "network.head." in n or "visual_projection" in n]
    assert bool(behind) == (name != "DINOv2")
    assert all(layers[each] == model.depth + 1 for each in behind)


def test_a_run_chooses(tmp_path: Path) -> None:
    """Catches a choice that gets lost on the way to `params.yaml`, that other encoders of the table
    take over, or that changes the settings of a run that does not make it."""
    saved(OWN["CLIP of another projection"], tmp_path / "clip")
    overrides = [
        "experiment=encoders",
        f"encoders={{plain: {tmp_path}/clip, own: {tmp_path}/clip}}",
    ]
    params, before = (
        composition.validate(yaml.safe_load(composition.compose([*overrides, *more])), place="")
        for more in (["runs.own.pooling=own"], [])
    )
    network = params.runs["own"].model.network
    assert network is not None
    assert (network.pooling, network.config["projection_dim"]) == ("own", PROJECTED)
    assert {name for name, run in params.runs.items() if run.pooling == "own"} == {"own"}
    for name in ("plain", "random"):
        assert params.runs[name].model_dump() == before.runs[name].model_dump()
    assert "pooling" not in str(params.runs["plain"].model_dump())


def test_what_has_no_pooling_is_refused(tmp_path: Path, run: Run) -> None:
    """Catches a mean of patches that is called the network's own pooling."""
    saved(LIBRARY["V-JEPA 2"], tmp_path / "videos")
    with pytest.raises(UserError, match="no pooling of its own"):
        known_weights.known(tmp_path / "videos", "own")
    headless = of("SiglipVisionConfig", **IMAGES, vision_use_head=False)
    saved(Library(headless, "SiglipVisionModel"), tmp_path / "headless")
    with pytest.raises(UserError, match="no pooling of its own"):
        known_weights.known(tmp_path / "headless", "own")
    body = untrained(run, weights="a.pth").model_dump(mode="json")
    with pytest.raises(ValueError, match="networks of images"):
        Run.model_validate(body | {"pooling": "own"})
