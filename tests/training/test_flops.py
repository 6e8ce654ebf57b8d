"""Operations are counted as PyTorch counts them on a real step, and the peak is a rate."""

from __future__ import annotations

import time

import numpy as np
import pytest
import timm
import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model, tube_grid
from pipeline.data.load.order import sample_rng
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.feature_networks import PatchFeatures
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.tubes import split_mask
from pipeline.training import flops

TEACHER = "test_vit.r160_in1k"


@pytest.mark.parametrize("name", ["sigma_mlp", "pixel", "dino"])
def test_counted_as_pytorch_counts_a_real_step(name: str) -> None:
    """Catches a layer that is left out, a gradient that nobody needs, and a teacher for nothing."""
    params = composition.validate(
        yaml.safe_load(composition.compose(("experiment=tiny",))), place="test"
    )
    run, clip = params.runs["pixel" if name == "pixel" else "sigma_mlp"], params.data.clip
    objective, target = run.objective, None
    grid = tube_grid(run.model, clip)
    if name == "dino":
        network = timm.create_model(TEACHER, pretrained=False, num_classes=0, dynamic_img_size=True)
        target = FrozenFeatures(network.num_features, grid).use(PatchFeatures(network, grid))
        settings = FrozenTarget(model=TEACHER)
        objective = objective.model_copy(update={"target": settings})
    model = sigma_model(run.model, objective, clip, target=target)
    counted = flops.per_clip(model, objective)
    drawn = [objective.mask.draw(grid.shape, sample_rng(0, 0, index)) for index in range(3)]
    videos = torch.rand(3, 3, *grid.clip_shape)
    # Fused attention makes its scores again when going back, which is not the model's need.
    mask = torch.from_numpy(np.stack(drawn))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prediction = model(videos, split_mask(mask))
        # The loss as the paper has it; ours saves memory, and knows its gradient beforehand.
        loss = prediction.decoded.square().sum()
        if prediction.prototypes is not None:
            for features, prototypes in (
                (prediction.decoded, prediction.prototypes.detach()),
                (prediction.targets, prediction.prototypes),
            ):
                loss = loss + (features.float() @ prototypes.T).square().sum()
        loss.backward()
    assert counter.get_total_flops() == 3 * counted


METHODS = [name for name in composition.choices()["objective"] if name.endswith("_demo")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_counted(method: str) -> None:
    """Catches an objective whose training ends before it has begun, since its operations are
    counted on tensors without numbers."""
    text = composition.compose(("experiment=demo", f"objective@runs.random.objective={method}"))
    params = composition.parse(text, place="test")
    run = params.runs["random"]
    assert (
        flops.per_clip(sigma_model(run.model, run.objective, params.data.clip), run.objective) > 0
    )


def test_the_peak_is_measured_once_and_is_reached() -> None:
    """Catches a peak in another unit, of one thread for all, or measured in every step."""
    device = torch.device("cpu")
    peak = flops.matmul_peak(device, "fp32")
    assert flops.matmul_peak(device, "fp32") == peak  # to the last bit: not measured again
    matrix = torch.rand(512, 512)
    best = min(_timed(matrix) for _ in range(20))
    assert 0.2 < 2 * 512**3 / best / peak < 5


def _timed(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - began
