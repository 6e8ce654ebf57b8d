"""Every objective's training step on an accelerator, of which there need be none.

`fake_accelerator` says what fails here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.accelerator.numerics import with_teachers
from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective, Run, Trainer
from pipeline.data.load.loader import Batch
from pipeline.data.load.order import sample_rng, step_rng
from pipeline.method import sinkhorn
from pipeline.method.losses import LOSSES, SinkhornLoss
from pipeline.method.masks import MASKS
from pipeline.method.masks.base import stacked
from pipeline.method.pixels import normalise, to_device
from pipeline.method.swapped_assignment import COSINE
from pipeline.method.targets import (
    TARGETS,
    ClustersTarget,
    EncoderTarget,
    FrozenTarget,
    MlpTarget,
    Target,
)
from pipeline.runtime.interruption import StopRequest
from pipeline.runtime.optimisers import StepValues
from pipeline.runtime.precision import Precision
from pipeline.runtime.ranks import Ranks
from pipeline.training.engines.engine import Engine
from pipeline.training.loop import train_step, with_equal_counts
from tests.fake_accelerator import CUDA, RefusedError, accelerator

OBJECTIVES = sorted(
    path.stem for path in (composition.CONF / "objective").glob("*.yaml") if path.stem != "base"
)
PRECISIONS = ("fp32", "bf16", "fp16")
# All kinds of target and loss, and masks that the model decides; each costs half a second.
IN_ALL_FORMATS = {
    *("sigma_mlp", "sigma_dino", "mae_st", "vjepa"),
    *("mvd", "umt", "clusters", "adamae", "everest"),
}
CLIP = Clip(frames=8, stride=1, size=32, scales=(1.0,), flip=False)
TEACHER = "test_vit.r160_in1k"
WIDTH = 64
VALUES = StepValues(1e-3, weight_decay=0.04, momentum=0.99)
THE_LOSS = ["loop.train_step"]  # is waited for once in a step


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """A run, and all objectives of the configuration."""
    groups = [f"+objective@zoo.{name}={name}" for name in OBJECTIVES]
    config = OmegaConf.to_container(composition._compose(["experiment=one", *groups]), resolve=True)
    assert isinstance(config, dict)
    return {str(name): value for name, value in config.items()}


@pytest.fixture(autouse=True)
def _random_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image networks have random weights: none is fetched."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False})
    )


def shrunk(target: Target) -> Target:
    """The same target, of a small network."""
    match target:
        case FrozenTarget() | EncoderTarget():
            layers = tuple(range(-len(target.layers), 0))
            small = {"model": TEACHER} if isinstance(target, FrozenTarget) else {"width": WIDTH}
            return dataclasses.replace(target, layers=layers, sha256=None, **small)
        case ClustersTarget():
            features = shrunk(target.features)
            assert isinstance(features, FrozenTarget | EncoderTarget)
            return dataclasses.replace(target, features=features, clusters=5)
        case MlpTarget():
            return dataclasses.replace(target, hidden=(20,), width=12)
    return target


def objective_of(composed: dict[str, Any], name: str) -> Objective:
    """An objective of the configuration, with small networks."""
    whole = Objective.model_validate(composed["zoo"][name])
    further = {
        key: each.model_copy(update={"target": shrunk(each.target)})
        for key, each in whole.further.items()
    }
    return whole.model_copy(update={"target": shrunk(whole.target), "further": further})


def run_of(composed: dict[str, Any], objective: Objective, **trainer: object) -> Run:
    """A run with this objective, of a small model."""
    layers = len(getattr(objective.target, "layers", ()))
    model = Model.model_validate(
        composed["model"]
        | {"name": "small", "width": WIDTH, "depth": max(2, layers), "drop_path": 0.1}
        | {"tube": (2, 8, 8), "decoder_width": 32, "decoder_depth": 1}
    )
    settings = Trainer.model_validate(composed["trainer"] | {"batch_size": 4} | trainer)
    return Run(model=model, objective=objective, trainer=settings)


def batch_of(run: Run, grid: tuple[int, int, int]) -> Batch:
    """Four clips as the loader hands them over: on the CPU."""
    videos = torch.randint(0, 256, (4, CLIP.frames, CLIP.size, CLIP.size, 3), dtype=torch.uint8)
    mask, masks = run.objective.mask.at_step(step_rng(0, 0)), []
    for number, video in enumerate(videos.numpy()):
        rng = sample_rng(0, 0, number)
        drawn = [mask.draw(grid, rng, video) for _ in range(run.objective.masks_per_clip)]
        masks.append(torch.from_numpy(stacked(drawn)))
    batch = Batch(0, 0, videos, torch.stack(masks), list("abcd"))
    return with_equal_counts(batch, mask, Ranks())


def traced_step(
    run: Run,
    precision: str,
    like: str = "cuda",
    may_wait: Sequence[Callable[..., Any]] = (train_step,),
) -> list[str]:
    """Take a step on a fake accelerator; return where it waited for the device."""
    model = with_teachers(sigma_model(run.model, run.objective, CLIP), run, CLIP).train()
    batch = batch_of(run, model.grid.shape)
    with accelerator(model, may_wait=may_wait, like=like) as device:
        batch = dataclasses.replace(batch, videos=to_device(batch.videos, CUDA))
        engine = Engine(model, run.trainer, Ranks(), Precision(precision, "cuda"))
        result = train_step(engine, batch, 4, run, VALUES, StopRequest())
        for number in result.diagnostics.values():
            assert number.device == CUDA  # they are waited for where they are logged
        assert engine.scaler.is_enabled() == (precision == "fp16")
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
        assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
        assert all(state["step"].device == CUDA for state in engine.adamw.state.values())
    return device.waits


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (name, precision)
        for name in OBJECTIVES
        for precision in (PRECISIONS if name in IN_ALL_FORMATS else ["bf16"])
    ],
)
def test_a_step_waits_for_the_loss_alone(
    composed: dict[str, Any], name: str, precision: str
) -> None:
    """Catches mixed devices or types, copies of constants and waits, in every objective."""
    objective = objective_of(composed, name)
    assert traced_step(run_of(composed, objective), precision) == THE_LOSS


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_needs_no_float64(composed: dict[str, Any], name: str, precision: str) -> None:
    """Catches float64 on Apple's accelerators, and copies that are not waited for there.

    Sinkhorn of a small epsilon goes to the CPU: each branch's scores are waited for.
    """
    objective = objective_of(composed, name)
    may_wait = [train_step, sinkhorn._on_cpu]
    *waits, last = traced_step(run_of(composed, objective), precision, "mps", may_wait)
    loss = objective.loss
    on_cpu = isinstance(loss, SinkhornLoss) and COSINE / loss.epsilon > sinkhorn.WIDEST
    assert set(waits) == ({"sinkhorn._on_cpu"} if on_cpu else set())
    assert [last] == THE_LOSS


@pytest.mark.parametrize("name", ["sigma_mlp", "sigma_dino"])
def test_a_step_on_an_arc(composed: dict[str, Any], name: str) -> None:
    """Catches float64 beside streams and pinned memory, which Intel's accelerators have."""
    objective = objective_of(composed, name)
    if isinstance(objective.target, FrozenTarget):
        target = dataclasses.replace(objective.target, own_stream=True)
        objective = objective.model_copy(update={"target": target})
    assert traced_step(run_of(composed, objective), "bf16", "arc") == THE_LOSS


SETTINGS: dict[str, dict[str, Any]] = {
    "parts": {"accumulation": 2},
    "parts, one empty": {"accumulation": 5},
    "clipped and averaged": {"optimiser": {"clip_grad": 0.5}, "ema": 0.9},
}


@pytest.mark.parametrize("precision", ["fp16"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ["sigma_mlp", "vjepa", "sigma_dual"])
def test_settings_of_the_trainer_add_no_wait(
    composed: dict[str, Any], name: str, settings: str, precision: str
) -> None:
    """Catches the same where a batch comes in parts, gradients are clipped, weights averaged."""
    changes = dict(SETTINGS[settings])
    if "optimiser" in changes:
        changes["optimiser"] = composed["trainer"]["optimiser"] | changes["optimiser"]
    run = run_of(composed, objective_of(composed, name), batch_size=20, **changes)
    assert traced_step(run, precision) == THE_LOSS


FROZEN: dict[str, dict[str, Any]] = {
    "in bf16": {"precision": "bf16"},
    "on its own stream": {"own_stream": True},
    "both": {"precision": "bf16", "own_stream": True},
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("settings", FROZEN)
@pytest.mark.parametrize("name", ["sigma_dino", "umt"])
def test_settings_of_a_frozen_network_add_no_wait(
    composed: dict[str, Any], name: str, settings: str, precision: str
) -> None:
    """Catches the same of a teacher in half the precision, or beside the encoder."""
    objective = objective_of(composed, name)
    target = dataclasses.replace(objective.target, **FROZEN[settings])
    run = run_of(composed, objective.model_copy(update={"target": target}))
    assert traced_step(run, precision) == THE_LOSS


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_small_epsilon_adds_no_wait(composed: dict[str, Any], precision: str) -> None:
    """Catches the same where Sinkhorn is worked out in logarithms."""
    objective = objective_of(composed, "sigma_mlp")
    assert isinstance(objective.loss, SinkhornLoss)
    loss = dataclasses.replace(objective.loss, epsilon=0.005)
    run = run_of(composed, objective.model_copy(update={"loss": loss}))
    assert traced_step(run, precision) == THE_LOSS


def test_scores_of_tubes_need_no_wait(composed: dict[str, Any]) -> None:
    """Catches the same in what the report's pictures of prototypes are made of."""
    run = run_of(composed, objective_of(composed, "sigma_mlp"))
    model = sigma_model(run.model, run.objective, CLIP)
    with accelerator(model):
        videos = torch.empty(2, CLIP.frames, 32, 32, 3, dtype=torch.uint8, device=CUDA)
        assert model.tube_scores(normalise(videos)).device == CUDA


def test_all_kinds_are_traced(composed: dict[str, Any]) -> None:
    """Catches a mask, a target or a loss that no objective of the configuration has."""
    each = [objective_of(composed, name) for name in OBJECTIVES]
    targets = {type(target) for objective in each for target in objective.all_targets}
    assert targets == set(TARGETS.values())
    known = {"l1", "mse", "smooth_l1", "cosine", "sinkhorn", "cross_entropy"}
    assert {objective.loss.kind for objective in each} == known == set(LOSSES)
    missing = set(MASKS) - {objective.mask.kind for objective in each}
    assert missing == {"random", "motion"}  # drawn by the loader, bool (N,) as that of `tube`


WRONG: dict[str, Callable[[Tensor], object]] = {
    "a number": lambda x: x.sum().item(),
    "numbers": lambda x: x.sum().tolist(),
    "truth": lambda x: bool(x.sum() > 0),
    "a copy to the CPU": lambda x: x.cpu(),
    "a copy of memory that is not pinned": lambda x: torch.ones(3).to(CUDA, non_blocking=True),
    "a constant": lambda x: x * x.new_tensor(0.5),
    "another constant": lambda x: x * torch.tensor([0.5], device=CUDA),
    "a boolean index": lambda x: x[x > 0],
    "a place to count": lambda x: (x > 0).nonzero(),
    "counts": lambda x: x.long().flatten().bincount(),
    "an index on the CPU": lambda x: x[torch.tensor([0])],
    "two devices": lambda x: x + torch.zeros(4, 4),
    "a product of integers": lambda x: x.long() @ x.long(),
    "a product of two types": lambda x: x @ x.half(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_seen(wrong: str) -> None:
    """Catches a trace that lets everything pass."""
    with accelerator() as device:
        given = torch.empty(4, 4, device=CUDA)
        with pytest.raises((RefusedError, RuntimeError)):
            WRONG[wrong](given)
    assert not device.waits


WRONG_WITHOUT_FLOAT64: dict[str, Callable[[Tensor], object]] = {
    "a wider type": lambda x: x.double(),
    "zeros": lambda x: x.new_zeros(3, dtype=torch.float64),
    "a sum": lambda x: x.sum(dtype=torch.float64),
    "an impatient copy": lambda x: torch.ones(3).to(x.device, non_blocking=True),
    "a wide copy": lambda x: torch.ones(3, dtype=torch.float64).to(x.device),
}


@pytest.mark.parametrize("wrong", WRONG_WITHOUT_FLOAT64)
def test_what_is_wrong_on_apples_is_seen(wrong: str) -> None:
    """Catches a trace that lets float64 pass, or copies that are not waited for."""
    with accelerator(like="mps"), pytest.raises(RefusedError):
        WRONG_WITHOUT_FLOAT64[wrong](torch.empty(4, 4, device=CUDA))
