"""What an accelerator does with N x K scores in one pass over them, as operators of PyTorch.

Written in plain PyTorch each of them reads and writes the scores several times, and that is what
takes the time there: at 64 clips and 3,000 prototypes a matrix of scores has a gigabyte
(docs/notes/accelerator.md has the numbers). Everywhere else the plain code is used.

Shapes: N tubes, K prototypes.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Any

import torch
from torch import Tensor

WIDEST = 16384  # columns that one program holds
LOG2_E = 1 / math.log(2)  # exp(x) = 2^(x LOG2_E), which accelerators have as an instruction


@functools.cache
def has_triton() -> bool:
    """Whether kernels can be compiled here."""
    return importlib.util.find_spec("triton") is not None


def can_use(scores: Tensor) -> bool:
    """Whether the operators of this module take these scores N,K."""
    return (
        scores.is_cuda
        and scores.dtype == torch.float32
        and scores.is_contiguous()
        and scores.shape[1] <= WIDEST
        and has_triton()
    )


def column_sums(scores: Tensor, u: Tensor | None, epsilon: float) -> Tensor:
    """Sums over rows, float64 K, of E = exp(scores / epsilon), or of E / (E u) where u K is given.

    `scores` are N,K, float32.
    """
    sums: Tensor = _column_sums(scores, scores.new_empty(0) if u is None else u, epsilon)
    return sums


@torch.library.custom_op("sigma_pipeline::column_sums", mutates_args=())
def _column_sums(scores: Tensor, u: Tensor, epsilon: float) -> Tensor:
    from pipeline.method import kernels

    n, k = scores.shape
    first = not u.numel()
    grid, sizes = launch(scores, rows=4, programs=2)
    partial = scores.new_empty(*grid, k)
    kernels.column_sums[grid](
        scores, partial if first else u, partial, n, k, LOG2_E / epsilon, first=first, **sizes
    )
    return partial.sum(0, dtype=torch.float64)


@_column_sums.register_fake
def _(scores: Tensor, u: Tensor, epsilon: float) -> Tensor:  # noqa: ARG001
    return scores.new_empty(scores.shape[1], dtype=torch.float64)


@torch.library.custom_op("sigma_pipeline::assignments", mutates_args=())
def assignments(scores: Tensor, u: Tensor, epsilon: float) -> Tensor:
    """The column of each row's largest exp(scores / epsilon) u: int64 N of float32 N,K and K."""
    from pipeline.method import kernels

    n, k = scores.shape
    labels = torch.empty(n, dtype=torch.int64, device=scores.device)
    grid, sizes = launch(scores, rows=4, programs=2)
    kernels.assignments[grid](scores, u, labels, n, k, LOG2_E / epsilon, **sizes)
    return labels


@assignments.register_fake
def _(scores: Tensor, u: Tensor, epsilon: float) -> Tensor:  # noqa: ARG001
    return scores.new_empty(len(scores), dtype=torch.int64)


@torch.library.custom_op("sigma_pipeline::softmax_rows", mutates_args=())
def softmax_rows(scores: Tensor, temperature: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """softmax(scores / temperature) N,K in `dtype`, and each row's log of the sum, float32 N."""
    from pipeline.method import kernels

    n, k = scores.shape
    shares = torch.empty(n, k, dtype=dtype, device=scores.device)
    partitions = scores.new_empty(n)
    grid, sizes = launch(scores, rows=1, programs=8)
    scale = LOG2_E / temperature
    kernels.softmax_rows[grid](scores, shares, partitions, n, k, scale, **sizes)
    return shares, partitions.div_(LOG2_E)


@softmax_rows.register_fake
def _(scores: Tensor, temperature: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return scores.new_empty(scores.shape, dtype=dtype), scores.new_empty(len(scores))


def launch(scores: Tensor, *, rows: int, programs: int) -> tuple[tuple[int], dict[str, Any]]:
    """How many programs work on scores N,K, and the sizes that each is compiled for.

    Each takes so many rows of 4,096 columns at a time, or as many numbers of others, and there are
    so many `programs` for each multiprocessor: what was the fastest on an H200 of several tried.
    """
    width = 1 << (scores.shape[1] - 1).bit_length()
    rows = max(1, rows * 4096 // width)
    rows = min(rows, 1 << (len(scores) - 1).bit_length())
    tiles, cores = -(-len(scores) // rows), 1
    if scores.is_cuda:
        cores = torch.cuda.get_device_properties(scores.device).multi_processor_count
    warps = 16 if width * rows > 8192 else 8
    return (min(tiles, programs * cores),), {"rows": rows, "width": width, "num_warps": warps}
