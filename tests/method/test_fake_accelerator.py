"""The forward pass of a training step on tensors that claim to be an accelerator's.

They have shapes, types and devices, but no numbers (PyTorch's `FakeTensorMode`); so whatever asks
for a number, for which an accelerator has to be waited for, or mixes devices or types, fails with
the line that does it. A backward pass needs a real device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import timm
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from pipeline.configuration.build import encoder, sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.data.load.order import sample_rng
from pipeline.method import masked_video
from pipeline.method.collectives import alone
from pipeline.method.losses import (
    LOSSES,
    CosineLoss,
    CrossEntropyLoss,
    L1Loss,
    Loss,
    MseLoss,
    SinkhornLoss,
    SmoothL1Loss,
)
from pipeline.method.masked_video import assign_parts, masked_video_loss
from pipeline.method.masks import AdaptiveMask, Mask, RedundancyMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import (
    TARGETS,
    AveragedTarget,
    ClustersTarget,
    EncoderTarget,
    FrozenTarget,
    MlpTarget,
    PixelTarget,
    Target,
)
from pipeline.method.targets.clusters import ClusterTargets
from pipeline.method.targets.frozen import ClipFeatures, VideoFeatures
from pipeline.method.tubes import TubeSplit, split_mask, split_masks

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of a small epsilon Sinkhorn is worked out in logarithms.
SINKHORN = {
    epsilon: SinkhornLoss(prototypes=6, epsilon=epsilon, iterations=3, temperature=0.1)
    for epsilon in (0.05, 0.005)
}
CASES = {
    "mlp": (MlpTarget(hidden=(20,), width=12), SINKHORN[0.05]),
    "mlp, small epsilon": (MlpTarget(hidden=(20,), width=12), SINKHORN[0.005]),
    "pixels": (PixelTarget(), MseLoss()),
    "frozen": (FrozenTarget(model="test_vit.r160_in1k"), SINKHORN[0.05]),
    "encoder": (EncoderTarget(width=24, run="teacher"), SINKHORN[0.05]),
    "clusters": (
        ClustersTarget(features=EncoderTarget(width=24, run="teacher"), clusters=5),
        CrossEntropyLoss(),
    ),
    "averaged": (AveragedTarget(), L1Loss()),
    "averaged, smooth": (AveragedTarget(), SmoothL1Loss()),
    "averaged, directions": (AveragedTarget(), CosineLoss()),
    "frozen, in bf16": (
        FrozenTarget(model="test_vit.r160_in1k", precision="bf16"),
        SINKHORN[0.05],
    ),
}


class NoCopies(TorchFunctionMode):
    """Refuses numbers that are copied to an accelerator: it is waited for, too."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            assert isinstance(result, Tensor)
            assert result.device.type == "cpu", "a constant is copied to the device"
        return result


@contextmanager
def autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """What `torch.autocast("cuda", dtype)` does where there is a GPU; elsewhere it does nothing."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or torch.bfloat16)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


@contextmanager
def on_accelerator(model: SigmaModel) -> Iterator[FakeTensorMode]:
    """Swap all tensors of a model for ones without numbers, on an accelerator."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode() as mode, patch.object(Tensor, "pin_memory", lambda own: own):
            model._apply(lambda real: torch.empty(real.shape, dtype=real.dtype, device="cuda"))
            yield mode
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


Step = Callable[[SigmaModel, Tensor, Loss], object]


def one_part(model: SigmaModel, videos: Tensor, loss: Loss) -> object:
    return masked_video_loss(model, videos, torch.empty(0), loss)[0]


def two_parts(model: SigmaModel, videos: Tensor, loss: Loss) -> object:
    assert isinstance(loss, SinkhornLoss)
    parts = [(videos, torch.empty(0), len(videos))] * 2
    assignments, _ = assign_parts(model, parts, loss)
    return masked_video_loss(model, videos, torch.empty(0), loss, assignments=assignments[0])[0]


def scores(model: SigmaModel, videos: Tensor, _: Loss) -> object:
    return model.tube_scores(videos)


def with_teachers(built: SigmaModel, objective: Objective, model: Model, clip: Clip) -> SigmaModel:
    """Give targets that are of a video encoder one with random weights."""
    for target, network in zip(objective.all_targets, built.targets, strict=True):
        if isinstance(network, ClusterTargets):
            assert isinstance(target, ClustersTarget)
            network.use(torch.randn(network.width, network.features.width))
            target, network = target.features, network.features
        if isinstance(target, EncoderTarget) and isinstance(network, VideoFeatures):
            network.use(ClipFeatures(encoder(model, clip), target))
    return built


@pytest.fixture
def trace(
    clip: Clip,
    model: Model,
    sinkhorn: Objective,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Target, Loss, torch.dtype | None, Step], object]:
    """A function that runs a step of a batch of two clips."""
    clip = clip.model_copy(update={"size": 32})
    model = model.model_copy(update={"tube": (2, 16, 16)})

    def run(target: Target, loss: Loss, dtype: torch.dtype | None, step: Step) -> object:
        objective = sinkhorn.model_copy(update={"target": target, "loss": loss})
        frozen = isinstance(target, FrozenTarget)
        if frozen:  # with random weights
            create = timm.create_model
            monkeypatch.setattr(
                timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False})
            )
        built = with_teachers(sigma_model(model, objective, clip), objective, model, clip)
        mask = torch.arange(built.grid.count).repeat(2, 1) % 4 > 0
        split = [part.contiguous() for part in split_mask(mask)[:2]]
        with on_accelerator(built) as mode:
            fake = TubeSplit(*(mode.from_tensor(part) for part in split))
            monkeypatch.setattr(masked_video, "split_masks", lambda *_: [fake])
            videos = torch.empty(2, 3, 4, 32, 32, device="cuda")
            with autocast(dtype), NoCopies():
                return step(built, videos, loss)

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_no_accelerator(
    trace: Callable[..., Tensor], case: str, precision: str
) -> None:
    """Catches tensors on the wrong device or of a type that matrix products refuse, and every wait
    for the device, in the forward pass of each objective."""
    loss = trace(*CASES[case], PRECISIONS[precision], one_part)
    assert loss.device.type == "cuda"
    assert loss.dtype == torch.float32
    assert loss.requires_grad


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("epsilon", SINKHORN)
@pytest.mark.parametrize("step", [two_parts, scores])
def test_parts_and_scores_wait_for_no_accelerator(
    trace: Callable[..., Tensor], step: Step, epsilon: float, precision: str
) -> None:
    """Catches the same in what is done where a batch comes in parts, and for pictures of scores."""
    target = MlpTarget(hidden=(20,), width=12)
    assert trace(target, SINKHORN[epsilon], PRECISIONS[precision], step).device.type == "cuda"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("mask", [AdaptiveMask(0.5, heads=3), RedundancyMask(0.5, 0.25)])
def test_masks_of_the_model_wait_for_no_accelerator(
    clip: Clip, model: Model, pixel: Objective, mask: Mask, precision: str
) -> None:
    """Catches the same where the model decides which tubes it sees."""
    built = sigma_model(model, pixel.model_copy(update={"mask": mask}), clip)
    noise = torch.from_numpy(mask.draw(built.grid.shape, sample_rng(0, 0, 0))).repeat(2, 1)
    with on_accelerator(built) as mode:
        drawn = mode.from_tensor(noise)
        videos = torch.empty(2, 3, *built.grid.clip_shape, device="cuda")
        with autocast(PRECISIONS[precision]), NoCopies():
            loss, _ = masked_video_loss(built, videos, drawn, MseLoss())
    assert loss.device.type == "cuda"
    assert loss.requires_grad


def teacher(model: Model, layers: tuple[int, ...], **settings: object) -> dict[str, object]:
    return {"kind": "encoder", "width": model.width, "run": "x", "layers": layers, **settings}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", ["umt", "mvd"])
def test_teachers_of_videos_wait_for_no_accelerator(
    clip: Clip, model: Model, pixel: Objective, method: str, precision: str
) -> None:
    """Catches the same of several targets, and of visible tubes that are aligned."""
    if method == "umt":
        changes = {
            "target": teacher(model, (0, 1), normalise="l2"),
            "loss": {"kind": "cosine"},
            "mask": {"kind": "attention", "ratio": 0.5},
            "alignment": {"interval": 1.0},
        }
    else:
        further = {"video": {"target": teacher(model, (-1,), normalise="none"), "weight": 2.0}}
        changes = {"further": further, "loss": {"kind": "smooth_l1"}}
    objective = Objective.model_validate(pixel.model_dump() | changes)
    built = with_teachers(sigma_model(model, objective, clip), objective, model, clip)
    drawn = objective.mask.draw(built.grid.shape, sample_rng(0, 0, 0))
    masks = torch.from_numpy(drawn).repeat(2, 1)
    (split,) = split_masks(masks)
    with on_accelerator(built) as mode:
        if isinstance(split, TubeSplit):
            fake: object = TubeSplit(*(mode.from_tensor(part) for part in split[:2]))
        else:
            fake = mode.from_tensor(split)
        videos = torch.empty(2, 3, *built.grid.clip_shape, device="cuda")
        with autocast(PRECISIONS[precision]), NoCopies():
            predictions = built(videos, [fake])
            loss = sum(objective.loss(each, alone)[0] for each in predictions)
    assert loss.device.type == "cuda"
    assert loss.requires_grad


def test_a_wait_is_seen(trace: Callable[..., object]) -> None:
    """Catches a trace that lets everything pass."""

    def waits(_: SigmaModel, videos: Tensor, __: Loss) -> object:
        return videos.sum().item()

    with pytest.raises(DataDependentOutputException):
        trace(PixelTarget(), MseLoss(), None, waits)


def test_a_copy_is_seen(trace: Callable[..., object]) -> None:
    """Catches a trace that lets constants pass."""

    def copies(_: SigmaModel, videos: Tensor, __: Loss) -> object:
        return videos * videos.new_tensor(0.5)

    with pytest.raises(AssertionError, match="copied"):
        trace(PixelTarget(), MseLoss(), None, copies)


def test_all_objectives_are_traced() -> None:
    """Catches a target or a loss that was added and is in no case."""
    targets, losses = zip(*CASES.values(), strict=True)
    assert {type(target) for target in targets} == set(TARGETS.values())
    assert {type(loss) for loss in losses} == set(LOSSES.values())
