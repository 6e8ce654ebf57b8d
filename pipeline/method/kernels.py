"""Triton kernels over N x K scores, which on an accelerator are read once for all that is made of
them. Imported where there is one (`pipeline.method.accelerated`); on a CPU under Triton's
interpreter.

Each program works on every P-th tile of ROWS rows and all columns: WIDTH is the power of two from K
on. Shapes: N tubes, K prototypes, P programs.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tile(scores, row, n, k, rows: tl.constexpr, width: tl.constexpr):
    """Rows `row` to `row + rows` of N,K scores, where they are, and which of them there are."""
    lines = row + tl.arange(0, rows)[:, None]
    columns = tl.arange(0, width)[None, :]
    inside = (lines < n) & (columns < k)
    places = lines.to(tl.int64) * k + columns
    return tl.load(scores + places, mask=inside, other=0.0), places, inside


@triton.jit
def column_sums(
    scores,
    u,
    partial,
    n,
    k,
    scale,
    first: tl.constexpr,
    rows: tl.constexpr,
    width: tl.constexpr,
):
    """Sums over rows of E, where `first`, else of E / (E u), with E = 2^(scores scale).

    Of each program's rows, to `partial` P,K.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.arange(0, width)
    factors = tl.load(u + columns, mask=columns < k, other=0.0)[None, :]
    sums = tl.zeros([width], tl.float32)
    for row in range(program * rows, n, programs * rows):
        part, _, inside = _tile(scores, row, n, k, rows, width)
        e = tl.where(inside, tl.exp2(part * scale), 0.0)
        if not first:
            total = tl.sum(e * factors, axis=1)
            e = e * (1.0 / tl.where(total > 0, total, 1.0))[:, None]
        sums += tl.sum(e, axis=0)
    tl.store(partial + program * k + columns, sums, mask=columns < k)


@triton.jit
def assignments(scores, u, labels, n, k, scale, rows: tl.constexpr, width: tl.constexpr):
    """The column of each row's largest E u, the first of equal ones, to `labels` N."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.arange(0, width)
    factors = tl.load(u + columns, mask=columns < k, other=0.0)[None, :]
    for row in range(program * rows, n, programs * rows):
        part, _, inside = _tile(scores, row, n, k, rows, width)
        share = tl.where(inside, tl.exp2(part * scale) * factors, -1.0)
        lines = row + tl.arange(0, rows)
        tl.store(labels + lines, tl.argmax(share, axis=1).to(tl.int64), mask=lines < n)


@triton.jit
def softmax_rows(scores, shares, partitions, n, k, scale, rows: tl.constexpr, width: tl.constexpr):
    """2^(scores scale) over its sum of each row, to `shares` N,K of any type, and the binary
    logarithm of the sum, to `partitions` N."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    for row in range(program * rows, n, programs * rows):
        part, places, inside = _tile(scores, row, n, k, rows, width)
        logits = tl.where(inside, part * scale, float("-inf"))
        largest = tl.max(tl.where(inside, logits, -1.0e30), axis=1)
        e = tl.where(inside, tl.exp2(logits - largest[:, None]), 0.0)
        total = tl.sum(e, axis=1)
        total = tl.where(total > 0, total, 1.0)
        share = e * (1.0 / total)[:, None]
        tl.store(shares + places, share.to(shares.dtype.element_ty), mask=inside)
        lines = row + tl.arange(0, rows)
        tl.store(partitions + lines, largest + tl.log2(total), mask=lines < n)
