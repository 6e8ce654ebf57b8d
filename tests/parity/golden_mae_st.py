"""MAE-ST: the mask of given noise, and a step."""

from __future__ import annotations

import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import RandomVisibleMask
from pipeline.method.masks.base import hide_all_but, least, visible_count
from pipeline.method.targets import PixelTarget
from pipeline.weights.formats import MAE_ST

from . import golden

ROUNDING = 1e-7  # absolute: gradients of biases of keys are nothing else


@golden.checks("mae_st_step")
def mae_st_step(case: golden.Case) -> None:
    """The visible tokens of the noise, targets, predictions, loss and every gradient."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    model = golden.model_settings(config).model_copy(
        update={"positions": "learned", "projection_bias": True}
    )
    objective = Objective(
        name="recorded",
        target=PixelTarget(normalise="tube", frames="one"),
        loss=MseLoss(),
        mask=RandomVisibleMask(config["mask_ratio"]),
    )
    sigma = sigma_model(model, objective, golden.clip_settings(config)).eval()
    sigma.load_state_dict(MAE_ST.renamed(case.tensors("weights")))

    noise, grid = inputs["noise"].numpy(), sigma.grid
    kept = least(noise, visible_count(grid.count, config["mask_ratio"], grid.shape))
    assert torch.equal(torch.from_numpy(kept), inputs["ids_keep"])
    mask = torch.from_numpy(hide_all_but(kept, grid.count))
    assert torch.equal(mask, outputs["mask"])

    loss, _ = masked_video_loss(sigma, inputs["videos"], mask, MseLoss())
    golden.check_loss(case, loss)
    recorded = case.tensors("gradients")
    for name, gradient in recorded.items():
        assert not name.endswith("k.bias") or gradient.abs().max() < ROUNDING, name
    golden.compare_gradients(golden.gradients(sigma), MAE_ST.renamed(recorded, gradients=True))

    with torch.no_grad():
        prediction = sigma(inputs["videos"], mask)
    for ours, name in ((prediction.targets, "target"), (prediction.decoded, "prediction")):
        theirs = outputs[name][mask].view_as(ours)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=golden.FEATURES)
