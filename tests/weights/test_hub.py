"""Saving and loading, and official checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.configuration.build import encoder, sigma_model
from pipeline.configuration.schema import Clip, Model, Objective, Run
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier


@pytest.fixture
def sigma(model: Model, sinkhorn: Objective, clip: Clip) -> SigmaModel:
    torch.manual_seed(0)
    return sigma_model(model, sinkhorn, clip)


def test_a_model_comes_back_as_it_was(
    tmp_path: Path, sigma: SigmaModel, run: Run, clip: Clip
) -> None:
    """Weights, configuration and features; and equal models give equal bytes."""
    path = tmp_path / "model.safetensors"
    hub.save(path, sigma, run, clip)
    loaded = hub.load(path)
    assert hub.read_config(path) == (run, clip)
    assert not loaded.training
    for name, tensor in sigma.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    again = tmp_path / "again.safetensors"
    hub.save(again, loaded, run, clip)
    assert again.read_bytes() == path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "again.safetensors"}


def test_a_background_stays_subtracted(
    tmp_path: Path, sigma: SigmaModel, run: Run, clip: Clip
) -> None:
    """Catches a loaded encoder that sees other clips than the one that was trained did."""
    run = run.model_copy(update={"model": run.model.model_copy(update={"background": "subtract"})})
    model = sigma_model(run.model, run.objective, clip)
    model.load_state_dict(sigma.state_dict())
    hub.save(tmp_path / "model.safetensors", model, run, clip)
    videos = torch.randn(2, 3, *model.grid.clip_shape)
    still = videos + torch.randn(2, 3, 1, *model.grid.clip_shape[1:])
    with torch.inference_mode():
        assert not torch.allclose(sigma.encoder(still), sigma.encoder(videos))
        loaded = hub.load(tmp_path / "model.safetensors")
        torch.testing.assert_close(loaded.encoder(still), loaded.encoder(videos))
        longer = hub.load(tmp_path / "model.safetensors", frames=2 * clip.frames)
        twice = [torch.cat([each, each], dim=2) for each in (still, videos)]
        torch.testing.assert_close(*map(longer.encoder, twice))


def test_files_hold_official_names(tmp_path: Path, sigma: SigmaModel, run: Run, clip: Clip) -> None:
    """Other tools read our files by the official names; position tables are not weights."""
    hub.save(tmp_path / "model.safetensors", sigma, run, clip)
    names = load_file(tmp_path / "model.safetensors").keys()
    expected = {"head.0.weight", "encoder.blocks.0.attn.q_bias", "prototypes", "mask_token"}
    assert expected <= names
    assert not any("target" in name or "positions" in name for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.norm.bias"), "missing: decoder.norm.bias"),
        (lambda s: s.update(stray=torch.zeros(1)), "not of this model: stray"),
        (lambda s: s.update(prototypes=torch.zeros(2, 2)), r"prototypes: shape \(2, 2\)"),
    ],
)
def test_unmatched_weights_are_named(sigma: SigmaModel, change: object, message: str) -> None:
    """A checkpoint that is loaded in part gives plausible, wrong numbers."""
    state = {hub.official_name(sigma, n): t for n, t in sigma.state_dict().items()}
    change(state)
    with pytest.raises(UserError, match=message):
        hub.load_official(sigma, state)


def test_official_pth_files_are_read_without_unpickling(tmp_path: Path, sigma: SigmaModel) -> None:
    """Weights beside the training's arguments are found; a file with code in it is refused."""
    state = {hub.official_name(sigma, n): t for n, t in sigma.state_dict().items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    assert hub.read_state(path).keys() == state.keys()

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"model": state, "extra": Trap()}, path)
    with pytest.raises(UserError, match="cannot be read"):
        hub.read_state(path)
    assert not (tmp_path / "sprung").exists()


def test_files_of_others_are_explained(tmp_path: Path, sigma: SigmaModel) -> None:
    """A safetensors file without our configuration, and a file that is none at all."""
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no encoder"):
        hub.load(path)
    with pytest.raises(UserError, match="no configuration"):
        hub.load_pretraining(path)
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="cannot be read"):
        hub.load(path)
    with pytest.raises(UserError, match="no weights"):
        hub.load(tmp_path / "absent.safetensors")


def test_a_pretrained_encoder_goes_into_a_classifier(
    sigma: SigmaModel, model: Model, clip: Clip
) -> None:
    """Fine-tuning starts from the encoder alone, without its last norm; strictly, too."""
    state = {hub.official_name(sigma, n): t for n, t in sigma.state_dict().items()}
    classifier = Classifier(model, clip, classes=3)
    hub.load_pretrained_encoder(classifier.encoder, state)
    videos = torch.randn(1, 3, *sigma.grid.clip_shape)
    torch.testing.assert_close(
        sigma.encoder.norm(classifier.encoder(videos)), sigma.encoder(videos)
    )
    assert classifier(videos).shape == (1, 3)
    whole = encoder(model, clip)
    hub.load_pretrained_encoder(whole, state)
    assert torch.equal(whole(videos), sigma.encoder(videos))
    del state["encoder.blocks.1.attn.v_bias"]
    with pytest.raises(UserError, match=r"missing: encoder\.blocks\.1\.attn\.v_bias"):
        hub.load_pretrained_encoder(classifier.encoder, state)
