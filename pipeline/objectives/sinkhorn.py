"""Sinkhorn-Knopp: assign tubes to prototypes so that every prototype gets the same share.

Paper, section 3.2 (after Cuturi 2013 and Caron et al. 2020): over the N tubes of the global batch
and K prototypes, the transport q = diag(v) exp(scores / epsilon) diag(u), with rows that sum to
one and columns that are scaled to N / K before the rows are. One iteration scales the columns and
then the rows; v is whatever makes the rows sum to one, so u alone describes q:

    q[n] = softmax_k(scores[n] / epsilon + log u),
    log u <- log u - log sum_n q[n],

and the assignment is argmax_k(scores / epsilon + log u). The N x K transport is never written
out: it is made again block by block, and only the K column sums are shared between processes.

All exponents are at most zero, so any epsilon and any scores are safe. The only sum that can
underflow is the first one, of columns before any row is scaled, which is taken with its maximum
set aside; afterwards every column sum is at least 1 / K of an average one. Exponents grow as
1 / epsilon, and their rounding with them: below an epsilon of 0.02 they are added in float64.

With fewer tubes than prototypes the same holds: each column gets N / K < 1, so no prototype can be
filled by whole tubes. The argmax then is the prototype of a tube's largest share, at most N
prototypes are used, and tubes that resemble each other may share one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.objectives.collectives import AllReduce, alone

FLOAT32_SUFFICES = 0.02  # epsilon from which q comes out within 1e-6 of float64's
BLOCK = 1 << 18  # entries of scores in work at a time: fits into a core's cache
BLOCK_ON_ACCELERATOR = 1 << 26


def assign(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce = alone
) -> Tensor:
    """Prototype of each tube: int64 indices N of `scores` N,K (this process's rows).

    `all_reduce` combines column sums with the other processes; the result does not depend on
    how the rows are spread over them. No gradient. Raises `ValueError` on an empty input.
    """
    log_u = column_scaling(scores, epsilon, iterations, all_reduce)
    return torch.cat([z.argmax(1) for z in _exponents(scores, epsilon, log_u)])


def transport(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce = alone
) -> Tensor:
    """The transport q N,K (float64), rows summing to one: for diagnostics and tests."""
    log_u = column_scaling(scores, epsilon, iterations, all_reduce)
    return torch.cat([z.softmax(1) for z in _exponents(scores, epsilon, log_u)])


@torch.no_grad()
def column_scaling(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce = alone
) -> Tensor:
    """log u, float64 K, after `iterations` scalings of columns (up to an additive constant)."""
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"scores must be a non-empty N,K matrix, got {tuple(scores.shape)}")
    if epsilon <= 0 or iterations < 1:
        raise ValueError(f"epsilon {epsilon} and iterations {iterations} must be positive")
    log_u = -_log_column_sums(scores, epsilon, all_reduce)
    dtype = torch.float32 if epsilon >= FLOAT32_SUFFICES else torch.float64
    for _ in range(iterations - 1):
        log_u = (log_u - log_u.mean()).to(dtype)
        sums = torch.zeros_like(log_u, dtype=torch.float64)
        for z in _exponents(scores, epsilon, log_u):
            sums += z.softmax(1).sum(0)
        log_u = log_u - all_reduce(sums, "sum").log()
    return log_u


def _log_column_sums(scores: Tensor, epsilon: float, all_reduce: AllReduce) -> Tensor:
    """log sum_n exp(scores / epsilon), float64 K, over the rows of all processes."""
    largest = all_reduce(scores.detach().amax(0).float() / epsilon, "max")
    sums = torch.zeros_like(largest, dtype=torch.float64)
    for part in _blocks(scores):
        sums += part.div(epsilon).sub_(largest).exp_().sum(0)
    return all_reduce(sums, "sum").log() + largest


def _exponents(scores: Tensor, epsilon: float, log_u: Tensor) -> Iterator[Tensor]:
    """scores / epsilon + log u by blocks of rows, up to a constant in each row.

    In the precision of `log_u`; but the quotient is in float32 always, which is what the public
    code rounds it to. The row's largest quotient is subtracted before log u is added: of the
    nearly equal numbers that decide an assignment no digit is lost then.
    """
    for part in _blocks(scores):
        quotient = part.div(epsilon).to(log_u.dtype)
        yield quotient.sub_(quotient.amax(1, keepdim=True)).add_(log_u)


def _blocks(scores: Tensor) -> Iterator[Tensor]:
    """The rows of `scores` in float32, a block at a time."""
    block = BLOCK if scores.device.type == "cpu" else BLOCK_ON_ACCELERATOR
    rows = max(1, block // scores.shape[1])
    for start in range(0, len(scores), rows):
        yield scores[start : start + rows].detach().float()
