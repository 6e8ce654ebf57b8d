"""Targets of several layers or networks, and of video encoders; visible tubes that are aligned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.configuration.build import encoder, sigma_model, tube_grid
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.errors import UserError
from pipeline.method.losses import SmoothL1Loss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.sigma import aligned_blocks
from pipeline.method.targets import EncoderTarget
from pipeline.method.targets.feature_networks import ClipFeatures
from pipeline.method.targets.frozen import VideoFeatures
from pipeline.weights import hub, teachers

SMOOTH, COSINE = {"kind": "smooth_l1"}, {"kind": "cosine"}
TEACHER = {"kind": "encoder", "run": "x", "width": 24}
FROZEN = {"kind": "frozen", "model": "test_vit.r160_in1k"}
ATTENTION = {"kind": "attention", "ratio": 0.5}


def changed(objective: Objective, **changes: Any) -> Objective:
    return Objective.model_validate(objective.model_dump() | changes)


def test_layers_of_a_video_encoder(clip: Clip, model: Model) -> None:
    """Catches blocks counted from the wrong end, a forgotten norm, layers in another order."""
    network, grid = encoder(model, clip).eval(), tube_grid(model, clip)
    tubes = torch.randn(2, grid.count, grid.pixels)
    everything = torch.arange(grid.count).expand(2, -1)
    last = network.encode(tubes)
    raw, first = network.outputs(tubes, None, (-1, 0), final_norm=False)
    torch.testing.assert_close(network.norm(raw), last)
    assert not torch.equal(raw, first)
    for normalise, expected in (
        ("none", torch.cat((first, raw), dim=-1)),
        ("l2", torch.cat([functional.normalize(each, dim=-1) for each in (first, raw)], dim=-1)),
    ):
        settings = EncoderTarget(
            width=24, run="x", layers=(0, -1), final_norm=False, normalise=normalise
        )
        target = VideoFeatures(settings, grid).use(ClipFeatures(network, settings))
        torch.testing.assert_close(target(tubes, everything), expected)
        attended = target.attended(tubes)
        torch.testing.assert_close(attended.features, expected)
        torch.testing.assert_close(attended.attention.sum(1), torch.ones(2))


def test_the_loss_is_the_weighted_sum(clip: Clip, model: Model, pixel: Objective) -> None:
    """Catches weights of another target, a mean in place of a sum, and decoders that are shared."""
    further = {
        "all": {"target": {"kind": "pixel", "normalise": "tube"}, "weight": 0.5},
        "one": {"target": {"kind": "pixel", "frames": "one"}},
    }
    objective = changed(pixel, loss=SMOOTH, weight=3.0, further=further)
    built = sigma_model(model, objective, clip)
    videos = torch.randn(2, 3, 4, 16, 16)
    mask = torch.arange(built.grid.count).expand(2, -1) % 2 == 0
    loss, _ = masked_video_loss(built, videos, mask, SmoothL1Loss())
    each = [SmoothL1Loss()(part, None)[0] for part in built(videos, [*_splits(mask)])]
    torch.testing.assert_close(loss, 3 * each[0] + 0.5 * each[1] + each[2])
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in built.parameters() if p.ndim > 1)


def _splits(mask: torch.Tensor) -> list[Any]:
    from pipeline.method.tubes import split_masks

    return split_masks(mask)


def test_names_of_before_stay(clip: Clip, model: Model, pixel: Objective) -> None:
    """Catches checkpoints and settings of one target that several targets change."""
    names = sigma_model(model, pixel, clip).state_dict()
    several = changed(pixel, further={"more": {"target": {"kind": "pixel"}}})
    assert set(names) < set(sigma_model(model, several, clip).state_dict())
    assert not any(name.startswith("further") for name in names)
    assert pixel.model_dump().keys() == {"name", "target", "loss", "mask"}


def test_aligned_blocks_are_counted_back() -> None:
    """Catches an off-by-one, and a rounding other than down (UMT)."""
    assert aligned_blocks(12, 6, 1.0) == (6, 7, 8, 9, 10, 11)
    assert aligned_blocks(12, 3, 1.5) == (8, 10, 11)
    with pytest.raises(ValueError, match="no 4"):
        aligned_blocks(3, 4, 1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mask": ATTENTION}, "follows what the target's network attends to"),
        ({"alignment": {}}, "no such network"),
        ({"alignment": {}, "target": FROZEN, "mask": {"kind": "dual", "ratio": 0.5,
          "decoder_ratio": 0.5}}, "also says which are decoded"),
        ({"alignment": {}, "target": TEACHER, "further": {"b": {"target": FROZEN}}}, "one target"),
        ({"further": {"b": {"target": {"kind": "averaged"}}}}, "first target"),
        ({"further": {"b": {"target": {"kind": "mlp", "hidden": [8], "width": 4}}}}, "collapses"),
        ({"target": {"kind": "encoder", "width": 24}}, "one of run and weights"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    pixel: Objective, changes: dict[str, Any], reason: str
) -> None:
    """Catches combinations that would fail, or learn nothing, only when they are trained."""
    with pytest.raises(ValueError, match=reason):
        changed(pixel, **changes)


def test_sinkhorn_assigns_one_feature(sinkhorn: Objective) -> None:
    """Catches prototypes of several layers or targets."""
    for changes in (
        {"target": {**TEACHER, "layers": [0, 1]}},
        {"further": {"b": {"target": FROZEN}}},
    ):
        with pytest.raises(ValueError, match="one target and one layer"):
            changed(sinkhorn, **changes)


def test_the_encoder_of_a_file_is_handed_over(
    clip: Clip, model: Model, pixel: Objective, run: Any, tmp_path: Path
) -> None:
    """Catches features of other weights, and encoders that do not fit, told by their names."""
    before = sigma_model(model, pixel, clip).eval()
    file = tmp_path / "teacher.safetensors"
    hub.save(file, before, run.model_copy(update={"objective": pixel, "model": model}), clip)
    target = {**TEACHER, "run": None, "weights": str(file), "normalise": "none"}
    objective = changed(pixel, target=target, loss=SMOOTH)
    assert objective.files == (str(file),)
    built = sigma_model(model, objective, clip)
    teachers.hand_over(built, objective.all_targets, Path)
    tubes = torch.randn(1, built.grid.count, built.grid.pixels)
    everything = torch.arange(built.grid.count)[None]
    torch.testing.assert_close(built.target(tubes, everything), before.encoder.encode(tubes))
    assert len(built.teacher_digest or "") == 64
    assert built.state_dict().keys() == sigma_model(model, objective, clip).state_dict().keys()
    for changes, reason in (
        ({"width": 25}, "24 wide, not 25"),
        ({"layers": [5]}, "no blocks"),
        ({"sha256": "0" * 64}, "not the expected file"),
        ({"weights": str(tmp_path / "absent")}, "no such file"),
    ):
        other = changed(pixel, target=target | changes, loss=SMOOTH)
        with pytest.raises(UserError, match=reason):
            teachers.hand_over(sigma_model(model, other, clip), other.all_targets, Path)
    subtracting = model.model_copy(update={"background": "subtract"})
    student = sigma_model(subtracting, objective, clip)
    with pytest.raises(UserError, match="background=null, and the model has subtract"):
        teachers.hand_over(student, objective.all_targets, Path)
