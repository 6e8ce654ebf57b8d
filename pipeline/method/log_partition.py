"""The part of a cross-entropy against prototypes that needs no labels, without keeping N x K.

A tube's cross-entropy is log sum_k exp(f . p_k / t) - f . p_a / t, with features f and prototypes
p of length one, temperature t and label a. The second term is one product a tube. The first one,
the log partition, is worked out here, block by block of tubes, together with its gradient: the
gradient needs the block's softmax, which is at hand then, and never again. So the backward pass
keeps what is of the size of the features and of the prototypes alone.

Shapes: N tubes, O values of a feature, K prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.method import accelerated
from pipeline.method.capabilities import has_float32_sums, widest_float

BLOCK = 1 << 20  # entries of scores in work at a time
BLOCK_ON_ACCELERATOR = 1 << 26


def mean_log_partition(
    features: Tensor, prototypes: Tensor, temperature: float, scores: Tensor | None = None
) -> Tensor:
    """Mean over tubes of log sum_k exp(f . p_k / t): scalar of features N,O and prototypes K,O.

    Both are float32 of length one. `scores` N,K, where given, is filled with the cosines f . p_k.
    Under CUDA's autocast, products are of its smaller type, their sums of float32.
    """
    dtype = product_type(features.device)
    with torch.autocast(features.device.type, enabled=False):
        mean: Tensor = _MeanLogPartition.apply(features, prototypes, temperature, scores, dtype)
    return mean


class _MeanLogPartition(torch.autograd.Function):
    """Its gradient is worked out in the forward pass, up to the scalar that comes back."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        temperature: float,
        scores: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        needs_features, needs_prototypes = ctx.needs_input_grad[:2]
        by_features = torch.empty_like(features) if needs_features else None
        by_prototypes = torch.zeros_like(prototypes) if needs_prototypes else None
        total = features.new_zeros((), dtype=widest_float(features.device))
        rows, columns = features.to(dtype), prototypes.to(dtype)
        size = max(1, _block(features.device) // len(prototypes))
        for start in range(0, len(features), size):
            part = slice(start, start + size)
            cosines = product(rows[part], columns.T, None if scores is None else scores[part])
            if accelerated.can_use(cosines):
                shares, partitions = accelerated.softmax_rows(cosines, temperature, dtype)
            else:
                logits = cosines.mul_(1 / temperature) if scores is None else cosines / temperature
                largest = logits.amax(1)
                shares = torch.softmax(logits, 1, out=logits)
                # The largest share is exp(0) over the sum of exponentials.
                partitions = largest - shares.amax(1).log()
                shares = shares.to(dtype)
            total += partitions.sum()
            if by_features is not None:
                product(shares, columns, by_features[part])
            if by_prototypes is not None:
                add_product(by_prototypes, shares.T, rows[part])
        scale = 1 / (len(features) * temperature)
        ctx.save_for_backward(
            by_features.mul_(scale) if by_features is not None else None,
            by_prototypes.mul_(scale) if by_prototypes is not None else None,
        )
        return (total / len(features)).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        by_features, by_prototypes = ctx.saved_tensors
        return (
            None if by_features is None else by_features * outer[0],
            None if by_prototypes is None else by_prototypes * outer[0],
            *(None, None, None),
        )


def product_type(device: torch.device) -> torch.dtype:
    """The type whose products are summed in float32: autocast's where that can be, else float32.

    Of unit vectors in bfloat16, products err by some 1e-4, which epsilon's quotient tolerates; a
    score rounded to bfloat16 would err by 2e-3. Others than CUDA offer no such sums.
    """
    if has_float32_sums(device) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of two matrices in float32, in `out` where given."""
    if left.dtype == torch.float32:
        return torch.mm(left, right, out=out)
    return torch.mm(left, right, out_dtype=torch.float32, out=out)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two matrices to a float32 matrix, in place."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right, out_dtype=torch.float32)


def _block(device: torch.device) -> int:
    return BLOCK if device.type == "cpu" else BLOCK_ON_ACCELERATOR
