"""The same weights through Hugging Face's VideoMAE: an independent implementation as oracle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective
from pipeline.errors import UserError
from pipeline.method.masks import RandomMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import MlpTarget, PixelTarget
from pipeline.weights import hugging_face
from tests import small_models

transformers = pytest.importorskip("transformers", reason="Hugging Face Transformers is missing")

CLIP = small_models.clip(frames=8, size=32)
MODEL = small_models.model(
    width=48, depth=3, heads=4, mlp_ratio=4.0, decoder_width=24, decoder_depth=2
)


def objective(kind: str) -> Objective:
    return Objective(
        name=kind,
        target=PixelTarget(kind="pixel")
        if kind == "pixel"
        else MlpTarget(kind="mlp", hidden=(32,), width=16),
        loss="mse" if kind == "pixel" else "sinkhorn",
        mask=RandomMask(ratio=0.75),
        prototypes=20,
        epsilon=0.05,
        iterations=3,
        temperature=0.1,
    )


def shaken(model: SigmaModel) -> SigmaModel:
    """Give every parameter, biases and norms too, a value that is not its initial one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def written(folder: Path, model: SigmaModel) -> Path:
    config = hugging_face.config(MODEL, CLIP)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(hugging_face.tensors(model), folder / "model.safetensors", {"format": "pt"})
    return folder


def test_pixel_pretraining(tmp_path: Path) -> None:
    """Predictions and loss: patch order, positions, biases, decoder and target normalisation."""
    torch.manual_seed(0)
    ours = shaken(sigma_model(MODEL, objective("pixel"), CLIP))
    theirs, report = transformers.VideoMAEForPreTraining.from_pretrained(
        written(tmp_path, ours), output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    videos = torch.randn(2, 3, 8, 32, 32)
    mask = torch.rand(2, 64).argsort(1) < 48
    with torch.no_grad():
        output = theirs(pixel_values=videos.transpose(1, 2), bool_masked_pos=mask)
        prediction = ours(videos, mask)
    torch.testing.assert_close(prediction.decoded, output.logits, rtol=0, atol=1e-5)
    loss = functional.mse_loss(prediction.decoded, prediction.targets)
    torch.testing.assert_close(loss, output.loss, rtol=1e-5, atol=0)


def test_encoder_features(tmp_path: Path) -> None:
    """A SIGMA model's encoder, all tubes visible, as `VideoMAEModel` loads it."""
    torch.manual_seed(1)
    ours = shaken(sigma_model(MODEL, objective("mlp"), CLIP))
    theirs, report = transformers.VideoMAEModel.from_pretrained(
        written(tmp_path, ours), output_loading_info=True
    )
    assert not report["missing_keys"]
    videos = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = theirs.eval()(pixel_values=videos.transpose(1, 2)).last_hidden_state
        features = ours.encoder(videos)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


@settings(max_examples=5)
@given(st.integers(1, 60), st.integers(2, 20))
def test_positions(count: int, half: int) -> None:
    """Sinusoid positions of any count and width are those of the reference implementation."""
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

    from pipeline.method.positions import sinusoid_positions

    expected = get_sinusoid_encoding_table(count, 2 * half)[0]
    torch.testing.assert_close(sinusoid_positions(count, 2 * half), expected, rtol=0, atol=1e-6)


def test_tubes_that_are_not_square_are_refused() -> None:
    """Their model has no place for them; exporting must not write a wrong configuration."""
    with pytest.raises(UserError, match="square"):
        hugging_face.config(MODEL.model_copy(update={"tube": (2, 8, 4)}), CLIP)
