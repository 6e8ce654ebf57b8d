"""The averaged target, block masks, and losses of regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.data.load import order
from pipeline.errors import UserError
from pipeline.method.collectives import alone
from pipeline.method.losses import LOSSES, CosineLoss, L1Loss, Loss, SmoothL1Loss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import BlockMask
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.masks.blocks import Blocks
from pipeline.method.sigma import Prediction, SigmaModel
from pipeline.method.targets import AveragedTarget, MlpTarget
from pipeline.method.targets.averaged import AveragedEncoder
from pipeline.method.tubes import cut, least_counts, split_masks

GRID = (4, 6, 6)
MASK = BlockMask((Blocks(4, area=(0.1, 0.2)), Blocks(2, area=(0.4, 0.5), length=(0.5, 1.0))))
JEPA = Objective(name="vjepa", target=AveragedTarget(), loss=L1Loss(), mask=MASK)


@pytest.fixture
def jepa(model: Model, clip: Clip) -> SigmaModel:
    torch.manual_seed(0)
    return sigma_model(model.model_copy(update={"tube": (2, 4, 4)}), JEPA, clip)


def batch(jepa: SigmaModel, clips: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    videos = torch.randn(clips, 3, *jepa.grid.clip_shape)
    grid = jepa.grid.shape
    mask = MASK.at_step(order.step_rng(0, 0))
    drawn = [mask.draw(grid, order.sample_rng(0, 0, index)) for index in range(clips)]
    masks = torch.from_numpy(np.stack(drawn))
    return videos, cut(masks, least_counts(masks))


def test_the_average_is_no_part_of_the_model(jepa: SigmaModel) -> None:
    """It is not trained, saved or counted; it begins as the encoder, and sees the whole clip."""
    assert isinstance(jepa.target, AveragedEncoder)
    assert not any(name.startswith("target") for name in jepa.state_dict())
    jepa.train()
    assert not jepa.target.encoder.training
    for name, weight in jepa.target.weights.items():
        assert torch.equal(weight, jepa.get_parameter(name))
    videos, masks = batch(jepa)
    everything = functional.layer_norm(jepa.eval().encoder(videos), (jepa.encoder.width,))
    for prediction, split in zip(
        jepa(videos, splits := split_masks(masks, 2)), splits, strict=True
    ):
        expected = everything.gather(1, split.predicted[..., None].expand(-1, -1, 24))
        torch.testing.assert_close(prediction.targets, expected)
        assert not prediction.targets.requires_grad


def test_kinds_of_masks_have_tokens_and_equal_weight(jepa: SigmaModel) -> None:
    """Catches a token that serves both kinds, and kinds that count by their numbers of tubes."""
    videos, masks = batch(jepa)
    loss, diagnostics = masked_video_loss(jepa, videos, masks, JEPA.loss)
    each = [
        (prediction.decoded - prediction.targets).abs().mean()
        for prediction in jepa(videos, split_masks(masks, 2))
    ]
    torch.testing.assert_close(loss, sum(each) / 2)
    each[0].backward()
    assert jepa.mask_token.grad[0].any()
    assert not jepa.mask_token.grad[1].any()
    assert 0 <= diagnostics["target_alignment"] < 1


@pytest.mark.parametrize("seed", range(20))
def test_block_masks(seed: int) -> None:
    """Catches blocks outside of the clip, an encoder that sees nothing, and sizes of each clip."""
    mask = MASK.at_step(order.step_rng(seed, 0))
    drawn = np.stack([mask.draw(GRID, order.sample_rng(seed, 0, index)) for index in range(9)])
    again = np.stack([mask.draw(GRID, order.sample_rng(seed, 0, index)) for index in range(9)])
    assert np.array_equal(drawn, again)
    assert drawn.shape == (9, 2, 4 * 6 * 6)
    assert ((drawn == VISIBLE) | (drawn == PREDICTED)).all()
    short = drawn[:, 0].reshape(9, *GRID)
    assert (short == short[:, :1]).all()  # all through the clip
    masks = torch.from_numpy(drawn)
    kept = cut(masks, least_counts(masks))
    for kind, split in enumerate(split_masks(kept, 2)):
        assert split.predicted.shape[1] == (masks[:, kind] == PREDICTED).sum(1).min()
        first = (masks[:, kind] == VISIBLE).nonzero()
        assert split.visible[0, 0] == first[0, 1]


def test_blocks_that_cover_everything_are_refused() -> None:
    """Catches a loop without end; the message must say what to change."""
    with pytest.raises(UserError, match="fewer or smaller blocks"):
        BlockMask((Blocks(1, area=(1.0, 1.0), aspect=(1.0, 1.0)),)).draw(
            GRID, order.sample_rng(0, 0, 0)
        )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (L1Loss(), 1.5),
        (L1Loss(exponent=2.0), 2.5 / 2),
        (SmoothL1Loss(beta=1.0), (0.5 + 1.5) / 2),
        (SmoothL1Loss(beta=4.0), (1 + 4) / 16),
        (CosineLoss(), 2 - 2 / 2**0.5),
    ],
)
def test_distances(loss: Loss, expected: float) -> None:
    """Against numbers by hand: of errors 1 and 2, or of an angle of 45 degrees."""
    prediction = Prediction(torch.tensor([[[2.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]), None)
    value, diagnostics = loss(prediction, alone)
    assert value.item() == pytest.approx(expected)
    assert diagnostics == {}


@pytest.mark.parametrize("kind", ["mse", "l1", "smooth_l1", "cosine"])
def test_regression_of_a_trained_target_is_refused(kind: str) -> None:
    """It would end in a constant."""
    with pytest.raises(ValueError, match=f"loss '{kind}' .* collapses"):
        LOSSES[kind]().check(MlpTarget(hidden=(2,), width=2))


def test_prototypes_are_of_one_kind_of_mask() -> None:
    """A combination that makes no sense is refused with the reason."""
    sinkhorn = {"kind": "sinkhorn", "prototypes": 4, "epsilon": 1, "iterations": 1}
    with pytest.raises(ValueError, match="one kind of mask"):
        Objective(
            name="x", target=AveragedTarget(), mask=MASK, loss={**sinkhorn, "temperature": 1.0}
        )
