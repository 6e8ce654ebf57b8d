"""Learning-rate schedule and parameter groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.configuration.build import sigma_model
from pipeline.runtime.optimisers import parameter_groups, scaled_rate, schedule
from pipeline.weights.classifier import Classifier
from tests import small_models
from tests.small_models import CLIP, SINKHORN

MODEL = small_models.model(width=8, depth=3, decoder_width=8)


@given(st.integers(1, 30), st.integers(1, 20), st.data())
def test_schedule_rises_then_falls(epochs: int, steps: int, data: st.DataObject) -> None:
    """One value a step; linear up to the base rate, then down a cosine, never past its bounds."""
    warmup = data.draw(st.integers(0, epochs))
    values = schedule(
        1.0, 0.1, epochs=epochs, steps_per_epoch=steps, warmup_epochs=warmup, start=0.01
    )
    assert values.shape == (epochs * steps,)
    rise, fall = np.split(values, [warmup * steps])
    assert (np.diff(rise) >= 0).all()
    assert (np.diff(fall) <= 0).all()
    assert values.max() <= 1.0
    assert values.min() >= 0.01
    if warmup * steps > 1:
        assert rise[0] == pytest.approx(0.01)
        assert rise[-1] == pytest.approx(1.0)
    if len(fall):
        assert fall[0] == pytest.approx(1.0)
        assert fall[-1] > 0.1


def test_schedule_of_nothing_is_empty() -> None:
    """An untrained baseline has no steps; more warm-up than training is a mistake."""
    assert schedule(1.0, 0.1, epochs=0, steps_per_epoch=7).shape == (0,)
    with pytest.raises(ValueError, match="warm-up"):
        schedule(1.0, 0.1, epochs=1, steps_per_epoch=7, warmup_epochs=2)


def test_rates_scale_with_the_global_batch() -> None:
    """Base rates are stated per 256 clips."""
    assert scaled_rate(1.5e-4, 512) == pytest.approx(3e-4)


def names(groups: list[dict[str, object]], **wanted: float) -> set[str]:
    chosen = [g for g in groups if all(g[key] == value for key, value in wanted.items())]
    return {name for group in chosen for name in group["names"]}


def test_matrices_decay_and_the_rest_does_not() -> None:
    """Prototypes decay, the mask token does not (as in the public code), nor biases and norms."""
    model = sigma_model(MODEL, SINKHORN, CLIP)
    groups = parameter_groups(model, 0.05)
    decayed, kept = names(groups, weight_decay=0.05), names(groups, weight_decay=0.0)
    assert decayed | kept == {name for name, _ in model.named_parameters()}
    assert not decayed & kept
    assert {"prototypes", "encoder_to_decoder.weight", "target.network.0.weight"} <= decayed
    assert {"mask_token", "encoder.blocks.0.attn.q_bias", "decoder.norm.weight"} <= kept
    assert all(name.endswith("weight") or name == "prototypes" for name in decayed)
    for group in groups:
        assert len(group["params"]) == len(group["names"])


def test_frozen_parameters_are_left_out() -> None:
    """A linear probe trains the head alone."""
    classifier = Classifier(MODEL, CLIP, classes=2)
    classifier.encoder.requires_grad_(False)
    found = names(parameter_groups(classifier, 0.05))
    assert found == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}


def test_deeper_layers_learn_faster() -> None:
    """Scales fall by the factor from the head down to the embedding."""
    groups = parameter_groups(Classifier(MODEL, CLIP, classes=2), 0.05, layer_decay=0.5, depth=3)
    scale = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert scale["head.weight"] == scale["fc_norm.bias"] == 1
    assert [scale[f"encoder.blocks.{i}.mlp.fc1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert scale["encoder.patch_embed.proj.bias"] == 0.0625
    with pytest.raises(ValueError, match="depth"):
        parameter_groups(nn.Linear(1, 1), 0.05, layer_decay=0.5)
