"""MVD: a step with features of two teachers, each predicted by a decoder of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.configuration.build import decoder_size, encoder_size, tube_grid
from pipeline.method.losses import MseLoss, Regression, SmoothL1Loss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import TubeMask
from pipeline.method.sigma import SigmaModel, Targets, WeightedTarget
from pipeline.method.targets import EncoderTarget
from pipeline.method.targets.frozen import FrozenFeatures, VideoFeatures
from pipeline.method.tubes import split_masks
from pipeline.weights.formats import MVD

from . import golden
from .golden_sigma import recorded_network

POSITIONS = ("pos_embed", "pos_embed_img", "pos_embed_vid")


def regression(config: dict[str, Any]) -> Regression:
    """The recorded loss, the same of both teachers."""
    assert config["image_loss"] == config["video_loss"]
    if config["image_loss"] == "SmoothL1":
        return SmoothL1Loss(config["smooth_l1_beta"])
    assert config["image_loss"] in ("L2", "MSE")
    return MseLoss()


def answers(features: Tensor) -> Callable[[Tensor], Tensor]:
    """A video encoder that answers with the recorded features of its clips."""
    return lambda _: features


@golden.checks("mvd_step")
def mvd_step(case: golden.Case) -> None:
    """Positions, targets, predictions, both losses and every gradient."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    normalise = "clip" if config["normalize_features"] else "none"
    model = golden.model_settings(config).model_copy(
        update={"positions": "sincos_3d_quarter_time", "projection_bias": True}
    )
    grid = tube_grid(model, golden.clip_settings(config))
    image = FrozenFeatures(config["image_feature_dim"], grid, normalise=normalise)
    teacher = EncoderTarget(
        width=config["video_feature_dim"], run="teacher", final_norm=False, normalise=normalise
    )
    image.use(recorded_network(inputs["image_features"]))
    video = VideoFeatures(teacher, grid).use(answers(inputs["video_features"]))
    sigma = SigmaModel(
        grid,
        encoder_size(model),
        decoder_size(model),
        Targets(
            WeightedTarget(image, config["image_weight"]),
            {"video": WeightedTarget(video, config["video_weight"])},
        ),
        mask=TubeMask(config["mask_ratio"]),
    ).eval()
    weights = case.tensors("weights")
    sigma.load_state_dict(MVD.renamed(weights))
    places = (sigma.encoder, *sigma.branches)
    for name, module in zip(POSITIONS, places, strict=True):
        torch.testing.assert_close(module.positions, weights[name][0], rtol=0, atol=1e-6)

    loss = regression(config)
    total, _ = masked_video_loss(sigma, inputs["videos"], inputs["mask"], loss)
    golden.check_loss(case, total)
    golden.compare_gradients(golden.gradients(sigma), MVD.renamed(case.tensors("gradients")))

    with torch.no_grad():
        predictions = sigma(inputs["videos"], split_masks(inputs["mask"]))
    for prediction, name in zip(predictions, ("image", "video"), strict=True):
        value, _ = loss(prediction, None)
        torch.testing.assert_close(value, outputs[f"{name}_loss"], rtol=1e-5, atol=0)
        for ours, theirs in (("targets", "targets"), ("decoded", "prediction")):
            recorded = outputs[f"{name}_{theirs}"]
            ours_ = getattr(prediction, ours)
            torch.testing.assert_close(ours_, recorded, rtol=1e-5, atol=golden.FEATURES)
