"""SMILE: a step on features of a frozen network, under two masks of each clip."""

from __future__ import annotations

import torch

from pipeline.configuration.build import sigma_model, tube_grid
from pipeline.configuration.schema import Objective
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import TubeMask
from pipeline.method.targets import PixelTarget
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.tubes import split_masks
from pipeline.weights import hub

from . import golden
from .golden_sigma import recorded_network


@golden.checks("smile_step")
def smile_step(case: golden.Case) -> None:
    """Labels, predictions, loss and gradients: first all clips under their first masks."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    assert config["normalize_target"]
    model, clip = golden.model_settings(config), golden.clip_settings(config)
    target = FrozenFeatures(config["feature_dim"], tube_grid(model, clip))
    target.use(recorded_network(inputs["features"]))
    mask = TubeMask(config["mask_ratio"])
    objective = Objective(name="recorded", target=PixelTarget(), loss=MseLoss(), mask=mask)
    sigma = sigma_model(model, objective, clip, target=target)
    hub.load_official(sigma, case.tensors("weights"), place=case.folder.name)
    sigma.eval()
    masks = torch.stack([inputs[name] for name in ("mask", "mask_2") if name in inputs], dim=1)
    loss, _ = masked_video_loss(sigma, inputs["videos"], masks, MseLoss())
    golden.check_loss(case, loss)
    golden.check_gradients(case, golden.gradients(sigma, lambda name: name))
    with torch.no_grad():
        (prediction,) = sigma(inputs["videos"], split_masks(masks))
    torch.testing.assert_close(
        prediction.targets, outputs["labels"], rtol=1e-5, atol=golden.FEATURES
    )
    torch.testing.assert_close(
        prediction.decoded, outputs["prediction"], rtol=1e-5, atol=golden.FEATURES
    )
