"""Sinkhorn-Knopp: assign tubes to prototypes so that every prototype gets the same share.

Paper, section 3.2 (after Cuturi 2013 and Caron et al. 2020): over the N tubes of the global batch
and K prototypes, the transport q = diag(v) E diag(u) with E = exp(scores / epsilon), rows that sum
to one and columns that are scaled to N / K before the rows are. One iteration scales the columns
and then the rows; v is whatever makes the rows sum to one, so u alone describes q:

    u <- 1 / (E^T v),  v <- 1 / (E u),  at first v = 1,

and the assignment is argmax_k(E u). The transport is never written out, and only the K column
sums are shared between processes.

E itself is kept where numbers hold it. In float32 that is with `bound` / epsilon up to `WIDEST`
(cosines at an epsilon of 0.03 or more); on the CPU in float64 up to `WIDEST_FLOAT64` (0.0034 or
more), each row divided by its largest entry, which its first v takes up. An iteration then is two
products of E with a vector, block by block, so that the second finds in the cache what the first
has read. All else is worked out in logarithms,

    q[n] = softmax_k(scores[n] / epsilon + log u),
    log u <- log u - log sum_n q[n],

each block made again from the scores in every iteration. There all exponents are at most zero, so
any epsilon and any scores are safe. The only sum that can underflow is the first one, of columns
before any row is scaled, which is taken with its maximum set aside; afterwards every column sum is
at least 1 / K of an average one. Exponents grow as 1 / epsilon, and their rounding with them: below
an epsilon of 0.02 they are added in float64. A device without float64 leaves all that does not fit
into float32 to the CPU.

With fewer tubes than prototypes the same holds: each column gets N / K < 1, so no prototype can be
filled by whole tubes. The argmax then is the prototype of a tube's largest share, at most N
prototypes are used, and tubes that resemble each other may share one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.method import accelerated
from pipeline.method.capabilities import has_float64, widest_float
from pipeline.method.collectives import AllReduce, alone
from pipeline.method.pixels import to_device

# Of |scores| / epsilon, from which on E is not kept. E, and u of largest value 1, lie between
# exp(-2 x 34) and exp(34); sums of N x exp(68), the largest numbers, are below float32's exp(88).
WIDEST = 34.0
# The same of float64, which ends at exp(709). Entries of E, of u and of the products that a row has
# most of lie between exp(-2 x 300) and 1, v below exp(2 x 300).
WIDEST_FLOAT64 = 300.0
FLOAT32_SUFFICES = 0.02  # epsilon from which q comes out within 1e-6 of float64's
BLOCK = 1 << 18  # entries of scores in work at a time: fits into a core's cache
BLOCK_ON_ACCELERATOR = 1 << 26


@torch.no_grad()
def assign(
    scores: Tensor,
    epsilon: float,
    iterations: int,
    all_reduce: AllReduce = alone,
    *,
    bound: float | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Prototype of each tube: int64 indices N of `scores` N,K (this process's rows).

    `all_reduce` combines column sums with the other processes; the result does not depend on
    how the rows are spread over them. No gradient. `bound` is at least as large as any |score| of
    any process, where that is known; else it is looked up, for which an accelerator has to wait.
    With `overwrite`, float32 scores may be used as working memory. After no iteration it is a
    tube's nearest prototype: u = 1. Raises `ValueError` on an empty input.
    """
    _check(scores, epsilon, iterations)
    if not iterations:
        return scores.argmax(1)
    exponent = _widest(scores, bound, all_reduce) / epsilon
    if _needs_cpu(scores, exponent):
        labels = assign(_on_cpu(scores), epsilon, iterations, all_reduce, bound=exponent * epsilon)
        return to_device(labels, scores.device)
    dtype = _kept_in(scores, exponent)
    if dtype is None:
        log_u = column_scaling(scores, epsilon, iterations, all_reduce)
        return torch.cat([z.argmax(1) for z in _exponents(scores, epsilon, log_u)])
    if accelerated.can_use(scores):
        return _assign_on_accelerator(scores, epsilon, iterations, all_reduce)
    kernel, u = _scaled_kernel(scores, epsilon, iterations, dtype, all_reduce, overwrite=overwrite)
    return torch.cat([(part * u).argmax(1) for part in _blocks(kernel)])


@torch.no_grad()
def transport(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce = alone
) -> Tensor:
    """The transport q N,K (float64 where the device has it), rows summing to one.

    After no iteration it is each row's softmax. Raises as `assign`.
    """
    _check(scores, epsilon, iterations)
    if not iterations:
        return scores.float().div(epsilon).to(widest_float(scores.device)).softmax(1)
    exponent = _widest(scores, None, all_reduce) / epsilon
    if _needs_cpu(scores, exponent):
        shares = transport(_on_cpu(scores), epsilon, iterations, all_reduce)
        return to_device(shares, scores.device)
    dtype = _kept_in(scores, exponent)
    if dtype is None:
        log_u = column_scaling(scores, epsilon, iterations, all_reduce)
        return torch.cat([z.softmax(1) for z in _exponents(scores, epsilon, log_u)])
    kernel, u = _scaled_kernel(scores, epsilon, iterations, dtype, all_reduce)
    wide = torch.promote_types(dtype, widest_float(scores.device))
    shares = kernel.to(wide) * u.to(wide)
    return shares / shares.sum(1, keepdim=True)


def _needs_cpu(scores: Tensor, exponent: float) -> bool:
    """Whether exponents are too large for float32, on a device that has nothing wider."""
    device = scores.device
    return exponent > WIDEST and device.type != "cpu" and not has_float64(device)


def _on_cpu(scores: Tensor) -> Tensor:
    """The scores where there is float64: on the CPU."""
    return scores.detach().cpu()


def _check(scores: Tensor, epsilon: float, iterations: int) -> None:
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"scores must be a non-empty N,K matrix, got {tuple(scores.shape)}")
    if epsilon <= 0:
        raise ValueError(f"epsilon {epsilon} must be positive")
    if iterations < 0:
        raise ValueError(f"iterations {iterations} must be none or more")


def _widest(scores: Tensor, bound: float | None, all_reduce: AllReduce) -> float:
    """`bound`, or the largest |score| of all processes."""
    if bound is not None:
        return bound
    ends = torch.stack(scores.detach().aminmax()).float().abs()
    return float(all_reduce(ends.amax(), "max"))


def _kept_in(scores: Tensor, exponent: float) -> torch.dtype | None:
    """The type that E is kept in where no |scores| / epsilon is larger than `exponent`, if any."""
    if exponent <= WIDEST:
        return torch.float32
    # An accelerator makes exponentials again sooner than it reads twice as many bytes.
    on_cpu = scores.device.type == "cpu"
    return torch.float64 if on_cpu and exponent <= WIDEST_FLOAT64 else None


def _scaled_kernel(
    scores: Tensor,
    epsilon: float,
    iterations: int,
    dtype: torch.dtype,
    all_reduce: AllReduce,
    *,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """E = exp(scores / epsilon), N,K, and u, K, after `iterations`; u has a largest value of 1.

    In float64 each row of E is divided by its largest entry: that row's first v.
    """
    kernel = scores.detach()
    if kernel.dtype != dtype or not overwrite:
        kernel = torch.empty_like(kernel, dtype=dtype)
    wide = torch.promote_types(dtype, widest_float(scores.device))
    sums = scores.new_zeros(scores.shape[1], dtype=wide)
    for part, source in zip(_blocks(kernel), _blocks(scores), strict=True):
        quotient = source.float() / epsilon  # of float32, to which the public code rounds it
        if dtype == torch.float32:
            sums += torch.exp(quotient, out=part).sum(0)
        else:
            largest = quotient.amax(1, keepdim=True)
            part.copy_(quotient).sub_(largest).exp_()
            sums += part.T.mv(largest.squeeze(1).double().exp_())
    u = _reciprocal(all_reduce(sums, "sum"), dtype)
    for _ in range(iterations - 1):
        sums.zero_()
        for part in _blocks(kernel):
            sums += part.T.mv(part.mv(u).reciprocal_())
        u = _reciprocal(all_reduce(sums, "sum"), dtype)
    return kernel, u


def _assign_on_accelerator(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce
) -> Tensor:
    """Prototype of each tube, where one pass over the scores makes E again quicker than it is read.

    Each pass makes an iteration: the products with u and with v, and the sums of columns.
    """
    u: Tensor | None = None
    for _ in range(iterations):
        sums = accelerated.column_sums(scores, u, epsilon)
        u = _reciprocal(all_reduce(sums, "sum"), torch.float32)
    labels: Tensor = accelerated.assignments(scores, u, epsilon)
    return labels


def _reciprocal(sums: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 1 / sums, scaled to a largest value of 1: u matters up to a factor."""
    return (sums.amin() / sums).to(dtype)


@torch.no_grad()
def column_scaling(
    scores: Tensor, epsilon: float, iterations: int, all_reduce: AllReduce = alone
) -> Tensor:
    """log u, float64 K, after `iterations` scalings of columns (up to an additive constant)."""
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
        sums += part.float().div(epsilon).sub_(largest).exp_().sum(0)
    return all_reduce(sums, "sum").log() + largest


def _exponents(scores: Tensor, epsilon: float, log_u: Tensor) -> Iterator[Tensor]:
    """scores / epsilon + log u by blocks of rows, up to a constant in each row.

    In the precision of `log_u`; but the quotient is in float32 always, which is what the public
    code rounds it to. The row's largest quotient is subtracted before log u is added: of the
    nearly equal numbers that decide an assignment no digit is lost then.
    """
    for part in _blocks(scores):
        quotient = part.float().div(epsilon).to(log_u.dtype)
        yield quotient.sub_(quotient.amax(1, keepdim=True)).add_(log_u)


def _blocks(scores: Tensor) -> Iterator[Tensor]:
    """The rows of a matrix, a block at a time."""
    block = BLOCK if scores.device.type == "cpu" else BLOCK_ON_ACCELERATOR
    rows = max(1, block // scores.shape[1])
    for start in range(0, len(scores), rows):
        yield scores[start : start + rows].detach()
