"""EVEREST: the selection of tubes, and a step with it."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks.redundancy import RedundancyMask, importance
from pipeline.method.tubes import TubeSplit

from .golden import FEATURES, Case, check_gradients, check_loss, checks, gradients
from .golden_videomae_v2 import pixel_model, pixels


def masks(split: TubeSplit, tubes: int) -> tuple[Tensor, Tensor]:
    """Return masks B,N that are false where a tube is visible, and where it is predicted."""
    whole = torch.ones(len(split.visible), tubes, dtype=torch.bool)
    return whole.scatter(1, split.visible, False), whole.scatter(1, split.predicted, False)


def check_split(case: Case, split: TubeSplit, scores: Tensor) -> None:
    """Compare importances and both masks with the recorded ones."""
    outputs = case.tensors("outputs")
    torch.testing.assert_close(scores, outputs["importance"], rtol=1e-5, atol=FEATURES)
    visible, predicted = masks(split, scores.shape[1])
    assert torch.equal(visible, outputs["input_mask"])
    assert torch.equal(predicted, outputs["target_mask"])


@checks("everest_selection")
def everest_selection(case: Case) -> None:
    """What is kept, seen and predicted, exactly."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    mask = RedundancyMask(ratio=config["mask_ratio"], drop=config["drop_ratio"])
    grid = (config["times"], 1, config["per_time"])
    assert inputs["noise"].shape[1] == config["kept"]
    split = mask.select(inputs["embeddings"], inputs["noise"], grid)
    check_split(case, split, importance(inputs["embeddings"], grid))
    assert torch.equal(split.visible, outputs["visible_ids"])
    assert torch.equal(split.predicted, outputs["predicted_ids"])


@checks("everest_step")
def everest_step(case: Case) -> None:
    """The selection by the model's own embeddings, labels, predictions, loss and gradients."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    mask = RedundancyMask(ratio=config["mask_ratio"], drop=config["drop_ratio"])
    model = pixel_model(case, mask, pixels(case))
    grid = model.grid
    with torch.no_grad():
        embeddings = model.encoder.patch_embed(grid.split(inputs["videos"]))
    split = mask.select(embeddings, inputs["noise"], grid.shape)
    check_split(case, split, importance(embeddings, grid.shape))
    loss, _ = masked_video_loss(model, inputs["videos"], inputs["noise"], MseLoss())
    check_loss(case, loss)
    check_gradients(case, gradients(model, lambda name: name))
    with torch.no_grad():
        prediction = model(inputs["videos"], split)
    torch.testing.assert_close(prediction.targets, outputs["labels"], rtol=1e-5, atol=FEATURES)
    torch.testing.assert_close(prediction.decoded, outputs["prediction"], rtol=1e-5, atol=FEATURES)
