"""VideoMAE v2: a step with a masked decoder. Names of parameters are VideoMAE's, as here."""

from __future__ import annotations

from typing import Literal

import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import Mask, TubeMask
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import PixelTarget
from pipeline.weights import hub

from . import golden


def pixel_model(case: golden.Case, mask: Mask, target: PixelTarget) -> SigmaModel:
    """Return a model that predicts pixels, with the recorded weights of VideoMAE's names."""
    objective = Objective(name="recorded", target=target, loss=MseLoss(), mask=mask)
    model = sigma_model(
        golden.model_settings(case.config), objective, golden.clip_settings(case.config)
    )
    hub.load_official(model, case.tensors("weights"), place=case.folder.name)
    return model.eval()


def pixels(case: golden.Case) -> PixelTarget:
    """Return the recorded target."""
    normalise: Literal["channel", "none"] = "channel" if case.config["normalize_target"] else "none"
    return PixelTarget(normalise=normalise)


@golden.checks("videomae_v2_step")
def videomae_v2_step(case: golden.Case) -> None:
    """Labels, predictions, the loss over what is decoded and hidden, and every gradient."""
    inputs, outputs = case.tensors("inputs"), case.tensors("outputs")
    seen, decoded = ~inputs["encoder_mask"], ~inputs["decoder_mask"]
    mask = (VISIBLE * seen + PREDICTED * decoded).to(torch.uint8)
    model = pixel_model(case, TubeMask(case.config["mask_ratio"]), pixels(case))
    loss, _ = masked_video_loss(model, inputs["videos"], mask, MseLoss())
    golden.check_loss(case, loss)
    golden.check_gradients(case, golden.gradients(model, lambda name: name))
    with torch.no_grad():
        prediction = model(inputs["videos"], mask)
    counted = outputs["loss_mask"]
    for ours, recorded in ((prediction.targets, "labels"), (prediction.decoded, "prediction")):
        torch.testing.assert_close(
            ours.flatten(0, 1), outputs[recorded][counted], rtol=1e-5, atol=golden.FEATURES
        )
