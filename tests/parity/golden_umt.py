"""UMT: its teacher's features and attention, and a step of aligned visible tubes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from pipeline.configuration.build import decoder_size, encoder_size, tube_grid
from pipeline.method.losses import CosineLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import AttentionMask
from pipeline.method.sigma import SigmaModel, Targets, WeightedTarget
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.feature_networks import Attended
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.targets.image_teachers import prepared, under_timms_names
from pipeline.method.tubes import TubeGrid

from . import golden


def teacher(config: dict[str, Any]) -> VisionTransformer:
    """CLIP's image encoder at the recorded size."""
    return VisionTransformer(
        img_size=config["img_size"],
        patch_size=config["patch_size"],
        embed_dim=config["teacher_dim"],
        depth=config["teacher_depth"],
        num_heads=config["teacher_heads"],
        num_classes=config["feature_dim"],
        norm_layer=partial(nn.LayerNorm, eps=config["layer_norm_eps"]),
        act_layer=config["activation"],
        pre_norm=True,
        dynamic_img_size=True,
    )


def their_name(name: str) -> str:
    """Return the name that UMT's pretraining has for a tensor of an aligned model."""
    return re.sub(r"decoder\.(head|norm)s\.(\d+)\.", r"clip_decoder.\2.\1.", name)


@golden.checks("umt_teacher")
def umt_teacher(case: golden.Case) -> None:
    """Features of the chosen blocks, and what the class token attends to in the last."""
    config, outputs = case.config, case.tensors("outputs")
    network = teacher(config)
    network.load_state_dict(under_timms_names(case.tensors("weights"), network))
    settings = FrozenTarget(
        model="recorded",
        layers=tuple(config["teacher_blocks"]),
        projection=True,
        input_normalisation="imagenet",
        normalise="l2",
    )
    tube = (config["tubelet_size"], config["patch_size"], config["patch_size"])
    clip, layers = golden.clip_settings(config), config["layers"]
    grid = TubeGrid.from_size(clip.frames, clip.size, clip.size, tube)
    width = layers * config["feature_dim"]
    target = FrozenFeatures(width, grid, layers=layers, normalise="l2")
    target.use(prepared(network, settings, grid))
    seen = target.attended(grid.split(case.tensors("inputs")["videos"]))
    features = torch.stack(seen.features.chunk(layers, dim=-1))
    torch.testing.assert_close(features, outputs["features"], rtol=1e-5, atol=golden.FEATURES)
    attention = seen.attention.view_as(outputs["attention"])
    torch.testing.assert_close(attention, outputs["attention"], rtol=1e-5, atol=golden.FEATURES)


class RecordedTeacher:
    """A network that answers with recorded features and attention of its frames."""

    def __init__(self, features: Tensor, attention: Tensor) -> None:
        self.seen = Attended(torch.cat(list(features), dim=-1), attention)

    def attended(self, _: Tensor) -> Attended:
        """Return what was recorded."""
        return self.seen


@golden.checks("umt_step")
def umt_step(case: golden.Case) -> None:
    """The mask by recorded attention, targets, predictions, loss and every gradient."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    model, layers = golden.model_settings(config), config["layers"]
    grid = tube_grid(model, golden.clip_settings(config))
    width = layers * config["feature_dim"]
    target = FrozenFeatures(width, grid, layers=layers, normalise="l2")
    target.use(RecordedTeacher(inputs["features"], inputs["attention"]))  # type: ignore[arg-type]
    mask = AttentionMask(config["mask_ratio"])
    sigma = SigmaModel(
        grid,
        encoder_size(model),
        decoder_size(model),
        Targets(WeightedTarget(target, config["loss_ratio"]), {}, config["student_interval"]),
        mask=mask,
    ).eval()
    assert list(sigma.aligned) == config["student_blocks"]
    state = case.tensors("weights")
    sigma.load_state_dict({name: state[their_name(name)] for name in sigma.state_dict()})
    assert len(state) == len(sigma.state_dict())

    noise = inputs["exponentials"].view(config["batch"], grid.count)
    split = mask.select(inputs["attention"].view_as(noise), noise, grid.shape)
    hidden = torch.ones(noise.shape, dtype=torch.bool).scatter(1, split.visible, False)
    assert torch.equal(hidden, outputs["mask"])
    assert torch.equal(hidden, torch.zeros_like(hidden).scatter(1, split.predicted, True))

    loss, _ = masked_video_loss(sigma, inputs["videos"], noise, CosineLoss())
    golden.check_loss(case, loss)
    golden.check_gradients(case, golden.gradients(sigma, their_name))
    with torch.no_grad():
        (prediction,) = sigma(inputs["videos"], [noise])
    for ours, name in ((prediction.targets, "targets"), (prediction.decoded, "prediction")):
        each = ours.reshape(*ours.shape[:2], layers, -1)
        by_layer = functional.normalize(each, dim=-1).permute(2, 0, 1, 3)
        torch.testing.assert_close(by_layer, outputs[name], rtol=1e-5, atol=golden.FEATURES)
