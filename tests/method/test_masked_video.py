"""The step's loss and diagnostics, on one process and on several."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective
from pipeline.method.collectives import alone
from pipeline.method.diagnostics import assignment_diagnostics, feature_diagnostics
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import AdaptiveMask
from pipeline.method.sigma import Prediction, SigmaModel
from pipeline.method.sinkhorn import assign
from pipeline.method.swapped_assignment import swapped_loss
from pipeline.method.targets import PixelTarget
from tests.small_models import CLIP, MODEL, SINKHORN

from . import distributed_step

PIXEL = SINKHORN.model_copy(update={"target": PixelTarget(), "loss": MseLoss()})


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    videos = torch.randn(size, 3, 4, 16, 16, generator=generator)
    return videos, torch.rand(size, 8, generator=generator).argsort(1) < 6


def built(objective: Objective) -> SigmaModel:
    torch.manual_seed(0)
    return sigma_model(MODEL, objective, CLIP)


def test_loss_is_the_sum_of_two_swapped_cross_entropies() -> None:
    """Written out longhand: branches swapped or a temperature forgotten would differ."""
    model = built(SINKHORN)
    videos, mask = batch(5)
    loss, _ = masked_video_loss(model, videos, mask, SINKHORN.loss)
    prediction = model(videos, mask)
    decoded = prediction.decoded_scores.reshape(-1, 8)
    target = prediction.target_scores.reshape(-1, 8)
    rows = torch.arange(len(decoded))
    of_decoded, of_target = (assign(s, 0.05, 6) for s in (decoded, target))
    first = -(target / 0.1).log_softmax(1)[rows, of_decoded].mean()
    second = -(decoded / 0.1).log_softmax(1)[rows, of_target].mean()
    assert not torch.equal(of_decoded, of_target)
    torch.testing.assert_close(loss, first + second)


def test_prototypes_are_brought_to_length_one_first() -> None:
    """Weights that grew in the last step must not scale the scores of this one."""
    model, long = built(SINKHORN), built(SINKHORN)
    with torch.no_grad():
        long.prototypes.mul_(7)
    loss, _ = masked_video_loss(model, *batch(3), SINKHORN.loss)
    again, _ = masked_video_loss(long, *batch(3), SINKHORN.loss)
    torch.testing.assert_close(loss, again)


def test_pixel_loss_is_the_mean_squared_error() -> None:
    """VideoMAE's loss, and its diagnostics without prototypes."""
    model = built(PIXEL)
    videos, mask = batch(3)
    loss, diagnostics = masked_video_loss(model, videos, mask, PIXEL.loss)
    prediction = model(videos, mask)
    torch.testing.assert_close(loss, (prediction.decoded - prediction.targets).square().mean())
    assert diagnostics.keys() == {
        f"{part}_{what}" for part in ("feature", "target") for what in ("norm", "alignment")
    }
    expected = prediction.targets.norm(dim=-1).mean().double()
    torch.testing.assert_close(diagnostics["target_norm"], expected)


@pytest.mark.parametrize("objective", [PIXEL, SINKHORN], ids=["pixel", "sinkhorn"])
def test_several_masks_of_a_clip_are_as_many_clips(objective: Objective) -> None:
    """Catches masks that meet another clip, and a mean over some of them."""
    model = built(objective)
    videos, mask = batch(6)
    loss, _ = masked_video_loss(model, videos[:3].repeat(2, 1, 1, 1, 1), mask, objective.loss)
    several = torch.stack((mask[:3], mask[3:]), dim=1)
    found, _ = masked_video_loss(model, videos[:3], several, objective.loss)
    torch.testing.assert_close(found, loss)


def test_several_draws_of_a_learnt_mask_are_as_many_clips() -> None:
    """Catches the same where the model draws: noise of one mask that meets another clip."""
    mask = AdaptiveMask(0.5, weight=1.0)
    model = built(PIXEL.model_copy(update={"mask": mask}))
    videos, noise = batch(6)[0], torch.rand(6, 8)
    loss, _ = masked_video_loss(model, videos[:3].repeat(2, 1, 1, 1, 1), noise, PIXEL.loss)
    several = torch.stack((noise[:3], noise[3:]), dim=1)
    found, _ = masked_video_loss(model, videos[:3], several, PIXEL.loss)
    torch.testing.assert_close(found, loss)


def test_a_few_steps_lower_both_losses() -> None:
    """A gradient that goes the wrong way, or nowhere, would not."""
    for objective in (SINKHORN, PIXEL):
        model = built(objective)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            loss, _ = masked_video_loss(model, *batch(8), objective.loss)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5]), objective.name


def test_bfloat16_gives_nearly_the_same_loss() -> None:
    """Scores and losses stay in float32 under mixed precision."""
    model = built(SINKHORN)
    loss, _ = masked_video_loss(model, *batch(4), SINKHORN.loss)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = masked_video_loss(model, *batch(4), SINKHORN.loss)
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(loss.item(), rel=0.1)


def prediction_of(decoded: Tensor, target: Tensor) -> Prediction:
    """With prototypes along the axes, scores are the features themselves, scaled to length one."""
    return Prediction(decoded, target, torch.eye(8))


def test_diagnostics_tell_a_collapse_from_a_healthy_batch() -> None:
    """All tubes on one prototype: few used, no entropy; one prototype each: all used, entropy 1."""
    healthy = (torch.eye(8).repeat(6, 1) * 0.9)[None]
    _, diagnostics = swapped_loss(prediction_of(healthy, healthy), SINKHORN.loss)
    values = {name: value.item() for name, value in diagnostics.items()}
    assert values["prototypes_used"] == 1
    assert values["assignment_entropy"] == pytest.approx(1)
    assert values["branch_agreement"] == 1

    collapsed = torch.full((1, 48, 8), 0.5)
    _, diagnostics = swapped_loss(prediction_of(collapsed, collapsed), SINKHORN.loss)
    values = {name: value.item() for name, value in diagnostics.items()}
    assert values["prototypes_used"] == 1 / 8
    assert values["assignment_entropy"] == pytest.approx(0, abs=1e-9)


def test_alignment_is_the_mean_cosine() -> None:
    """Against all pairs of tubes written out; one direction gives 1, opposite ones 0."""
    generator = torch.Generator().manual_seed(0)
    decoded = torch.randn(2, 5, 3, generator=generator) + torch.tensor([2.0, 0, 0])
    direction = torch.tensor([3.0, -4.0, 0.0])
    target = direction * torch.rand(2, 5, 1, generator=generator)
    found = feature_diagnostics(decoded, target, alone)
    unit = functional.normalize(decoded.flatten(0, 1), dim=1).double()
    assert found["feature_alignment"].item() == pytest.approx((unit @ unit.T).mean().item())
    assert found["target_alignment"].item() == pytest.approx(1)
    opposite = torch.stack((direction, -direction))[None]
    found = feature_diagnostics(opposite, opposite, alone)
    assert found["target_alignment"].item() == pytest.approx(0, abs=1e-12)
    assert found["target_norm"].item() == pytest.approx(5)


def test_diagnostics_count_both_branches() -> None:
    """Used means by either branch; entropy is the target branch's, out of what N tubes allow."""
    counts = torch.tensor([[3, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]])
    values = assignment_diagnostics(counts, torch.tensor(0), alone)
    assert values["prototypes_used"].item() == pytest.approx(4 / 6)
    assert values["assignment_entropy"].item() == pytest.approx(1)  # three tubes, all apart
    assert values["branch_agreement"].item() == 0
    values = assignment_diagnostics(counts.flip(0), torch.tensor(1), alone)
    assert values["assignment_entropy"].item() == pytest.approx(0)
    assert values["branch_agreement"].item() == pytest.approx(1 / 3)


def run_processes(folder: Path, world: int) -> list[dict[str, Tensor]]:
    """Let `world` processes take the step, and return what each wrote."""
    context = multiprocessing.get_context("forkserver")  # which imports once what all need
    context.set_forkserver_preload([distributed_step.__name__])
    processes = [
        context.Process(target=distributed_step.main, args=(folder, rank, world))
        for rank in range(world)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
    return [load_file(folder / f"{rank}-of-{world}.safetensors") for rank in range(world)]


@pytest.mark.system
@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_take_the_step_of_one(world: int, tmp_path: Path) -> None:
    """Gloo processes with B / world clips each, under DDP, against one process with all B:
    the same assignment, mean loss, averaged gradients and diagnostics, for both losses."""
    videos, mask = batch(8)
    generator = torch.Generator().manual_seed(2)
    scores = functional.normalize(torch.randn(400, 16, generator=generator), dim=1)
    save_file({"videos": videos, "mask": mask, "scores": scores}, tmp_path / "inputs.safetensors")
    objectives = {"sinkhorn": SINKHORN, "mse": PIXEL}
    settings = {
        "model": MODEL.model_dump(mode="json"),
        "clip": CLIP.model_dump(mode="json"),
        "objectives": {name: o.model_dump(mode="json") for name, o in objectives.items()},
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    outputs = run_processes(tmp_path, world)

    assignment = torch.cat([output["assignment"] for output in outputs])
    assert torch.equal(assignment, assign(scores, 0.03, 10))
    for kind, objective in objectives.items():
        model = built(objective)
        loss, diagnostics = masked_video_loss(model, videos, mask, objective.loss)
        loss.backward()
        mean = torch.stack([output[f"{kind}.loss"] for output in outputs]).mean()
        torch.testing.assert_close(mean, loss.detach(), rtol=1e-5, atol=0)
        for output in outputs:
            for name, parameter in model.named_parameters():
                distance = (output[f"{kind}.gradient.{name}"] - parameter.grad).norm()
                assert distance <= 1e-4 * parameter.grad.norm() + 1e-9, name
            for name, value in diagnostics.items():
                theirs = output[f"{kind}.diagnostics.{name}"].item()
                assert theirs == pytest.approx(value.item(), rel=1e-5), name
