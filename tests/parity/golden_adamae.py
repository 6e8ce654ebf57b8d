"""AdaMAE: a step with tubes that its network draws, by recorded random numbers."""

from __future__ import annotations

import torch

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import AdaptiveMask
from pipeline.weights.formats import ADAMAE

from . import golden
from .golden_videomae_v2 import pixels

# A softmax does not see a shift of all logits: these gradients are rounding.
SHIFTS = ("mask_network.logit.bias", "mask_network.block.mlp.fc2.bias")


@golden.checks("adamae_step")
def adamae_step(case: golden.Case) -> None:
    """Probabilities, what they draw, labels, predictions, both losses and every gradient."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    mask = AdaptiveMask(
        config["mask_ratio"], config["sampling_weight"], heads=config["probability_heads"]
    )
    objective = Objective(name="recorded", target=pixels(case), loss=MseLoss(), mask=mask)
    model = sigma_model(
        golden.model_settings(config), objective, golden.clip_settings(config)
    ).eval()
    model.load_state_dict(ADAMAE.renamed(case.tensors("weights")))

    tubes = model.grid.split(inputs["videos"])
    assert model.mask_network is not None
    logits = model.mask_network(model.encoder.patch_embed(tubes))
    torch.testing.assert_close(logits, outputs["logits"], rtol=1e-5, atol=golden.FEATURES)
    split = model.split(inputs["exponentials"], tubes)
    assert torch.equal(split.visible, inputs["visible_ids"].sort(1).values)
    assert torch.equal(split.predicted, outputs["mask"].nonzero()[:, 1].view_as(split.predicted))

    loss, _ = masked_video_loss(model, inputs["videos"], inputs["exponentials"], objective.loss)
    golden.check_loss(case, loss)
    golden.compare_gradients(
        golden.gradients(model), ADAMAE.renamed(case.tensors("gradients")), rounding=SHIFTS
    )

    with torch.no_grad():
        prediction = model(inputs["videos"], split)
        drawn = model(inputs["videos"], [inputs["exponentials"]])[0]
    torch.testing.assert_close(
        prediction.targets, outputs["labels"], rtol=1e-5, atol=golden.FEATURES
    )
    torch.testing.assert_close(
        prediction.decoded, outputs["prediction"], rtol=1e-5, atol=golden.FEATURES
    )
    sampling = mask.loss(drawn)
    assert sampling is not None
    torch.testing.assert_close(sampling, outputs["sampling_loss"], rtol=1e-5, atol=0)
