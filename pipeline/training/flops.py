"""Operations of a training step and of this device: what MFU is made of.

MFU, model FLOPs utilisation (Chowdhery et al. 2022, appendix B), is the rate of the operations
that the model needs, over the rate at which the device multiplies matrices. PyTorch counts those of
the matrix products of a step on the meta device, where nothing is computed: forward and backward
pass, a multiplication and an addition being two operations, a frozen teacher's forward pass
included; neither what is recomputed to save memory nor what an implementation does in vain counts.
"""

from __future__ import annotations

import copy
import functools

import torch

from pipeline.configuration.schema import Objective
from pipeline.data.load.order import sample_rng
from pipeline.method.sigma import Prediction, SigmaModel
from pipeline.method.tubes import splits_of_still
from pipeline.runtime import accelerators
from pipeline.runtime.operations import counting

SIDES = {"cpu": 1024, "mps": 4096}  # of the square matrices that find the peak
SIDE = 8192  # on others
TRIALS = 5


def per_clip(model: SigmaModel, objective: Objective) -> int:
    """Count all operations of a training step for one clip.

    A frozen teacher counts where the model has its network.
    """
    grid = model.grid
    model = copy.deepcopy(model).to("meta").eval()
    model.encoder.recompute = False
    for branch in model.branches:
        branch.decoder.recompute = False
    rng = sample_rng(0, 0, 0)
    splits = splits_of_still(objective.mask, grid, rng, objective.masks_per_clip)
    with counting() as counter:
        videos = torch.empty(1, 3, *grid.clip_shape, device="meta")
        predictions: list[Prediction] = model(videos, splits)
        loss = sum((each.decoded.square().sum() for each in predictions), videos.new_zeros(()))
        own = [model.mask.loss(each) if model.mask is not None else None for each in predictions]
        loss = sum((each for each in own if each is not None), loss)
        # The loss as the paper has it; ours saves memory, and knows its gradient beforehand.
        for prediction in predictions:
            if (prototypes := prediction.prototypes) is not None:
                loss = loss + (prediction.decoded @ prototypes.detach().T).square().sum()
                loss = loss + (prediction.targets @ prototypes.T).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def matmul_peak(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product on `device`, the best of a few: measured.

    `precision` is a trainer's: `fp32`, `bf16` or `fp16`. On a CPU the threads of this process work
    together, so it is to be called under the number of threads, and the kernels, of the training.
    Measured once for each; some tenths of a second.
    """
    return _measured_peak(str(device), precision, torch.get_num_threads())


@functools.cache
def _measured_peak(device: str, precision: str, _threads: int) -> float:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    where = torch.device(device)
    side = SIDES.get(where.type, SIDE)
    with torch.no_grad():
        # No random numbers: their state is the training's. No zeros: they cost less power.
        ramp = torch.arange(side * side, device=where, dtype=torch.float32)
        left = ramp.mul_(0.01).sin_().reshape(side, side).to(dtype)
        right = left.T.contiguous()
        multiply = functools.partial(torch.mm, left, right)
        best = min(accelerators.seconds(where, multiply) for _ in range(1 + TRIALS))
    del ramp, left, right, multiply
    accelerators.empty_cache(where)  # the training shall find its memory as it was
    return float(2 * side**3 / best)
