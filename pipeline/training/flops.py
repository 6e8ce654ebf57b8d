"""Operations of a training step and of this device: what MFU is made of.

MFU, model FLOPs utilisation (Chowdhery et al. 2022, appendix B), is the rate of the operations
that the model needs, over the rate at which the device multiplies matrices. What a step needs is
counted from the model's sizes: the matrix products of forward and backward pass, a multiplication
and an addition being two operations, a frozen teacher's forward pass included; neither what is
recomputed to save memory nor what an implementation does in vain counts. PyTorch's own counter
finds the same number on a real step (tests/training/test_flops.py).

Letters: N tubes of a clip, M masked ones, V visible ones, P pixel values of a tube, D width of the
encoder, d of the decoder, O of a target, K prototypes.
"""

from __future__ import annotations

import functools
import time
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.configuration.schema import Objective
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets.network import Operations
from pipeline.method.vit import Block

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices that find the peak
TRIALS = 5


def of_step(model: SigmaModel, objective: Objective) -> dict[str, Operations]:
    """Count the operations of a training step for one clip, by part.

    Parts: `encoder`, `decoder`, `projection` or `teacher` (the target's network), `scores`.
    """
    grid = model.grid
    masked = objective.mask.count(grid.shape)
    visible = grid.count - masked
    width, narrow = model.encoder.width, model.encoder_to_decoder.out_features
    embedding = _linear(visible, grid.pixels, width)
    encoder = _blocks(model.encoder.blocks, visible)
    joint = _linear(visible, width, narrow)
    decoder = _blocks(model.decoder.blocks, grid.count)
    head = _linear(masked, narrow, model.target.width)
    counts = {
        # Pixels get no gradient: the embedding's backward pass is that of its weights alone.
        "encoder": Operations(embedding + encoder, embedding + 2 * encoder),
        "decoder": Operations(joint + decoder + head, 2 * (joint + decoder + head)),
    }
    target = model.target.operations(masked)
    if target.total or model.target.frozen:
        counts["teacher" if model.target.frozen else "projection"] = target
    if model.prototypes is not None:
        score = _linear(masked, *model.prototypes.shape)
        # Back from the decoder's scores to its features; from the target's to the prototypes, and
        # to the features where these are trained.
        products = 3 if objective.target.is_trained else 2
        counts["scores"] = Operations(2 * score, products * score)
    return counts


def per_clip(model: SigmaModel, objective: Objective) -> int:
    """All operations of a training step for one clip."""
    return sum(part.total for part in of_step(model, objective).values())


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
    side = SIDES.get(where.type, SIDES["cuda"])
    with torch.no_grad():
        # No random numbers: their state is the training's. No zeros: they cost less power.
        ramp = torch.arange(side * side, device=where, dtype=torch.float32)
        left = ramp.mul_(0.01).sin_().reshape(side, side).to(dtype)
        right = left.T.contiguous()
        best = min(_seconds(left, right) for _ in range(1 + TRIALS))
    del ramp, left, right
    if where.type == "cuda":
        torch.cuda.empty_cache()  # the training shall find its memory as it was
    return float(2 * side**3 / best)


def _seconds(left: Tensor, right: Tensor) -> float:
    if left.is_cuda:
        begin, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        begin.record()
        torch.mm(left, right)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000
    began = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - began


def _linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def _blocks(stack: nn.ModuleList, tokens: int) -> int:
    """The forward pass of transformer blocks over `tokens`; the backward pass takes twice that."""
    total = 0
    for block in cast("list[Block]", list(stack)):
        for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            total += _linear(tokens, linear.in_features, linear.out_features)
        # Scores of all pairs of tokens, and the mixtures that they make.
        total += 2 * _linear(tokens, block.attn.proj.in_features, tokens)
    return total
