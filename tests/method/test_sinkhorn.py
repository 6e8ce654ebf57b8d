"""Sinkhorn's assignment: laws of its marginals, an oracle in float64, and independence of how
tubes are spread over processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pipeline.method import sinkhorn
from pipeline.method.sinkhorn import assign, column_scaling, transport

EPSILONS = st.sampled_from([0.002, 0.0035, 0.005, 0.01, 0.03, 0.05, 0.2, 1.0])


def cosines(tubes: int, prototypes: int, seed: int, skew: float = 0.0) -> Tensor:
    """Cosines of random features with random prototypes; `skew` draws features to one side."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(tubes, 8, generator=generator) + skew
    directions = torch.randn(prototypes, 8, generator=generator)
    return functional.normalize(features, dim=1) @ functional.normalize(directions, dim=1).T


@st.composite
def problems(draw: st.DrawFn) -> Tensor:
    return cosines(
        draw(st.integers(1, 300)),
        draw(st.integers(2, 60)),
        draw(st.integers(0, 99)),
        draw(st.sampled_from([0.0, 1.0, 10.0])),
    )


Q = 1e-6  # tolerance for q, at any epsilon


def oracle(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The textbook's alternating scalings, on logarithms in float64, rows last."""
    log_q = (scores.float() / epsilon).double()
    tubes, prototypes = scores.shape
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True) - torch.tensor(float(prototypes)).log()
        log_q = log_q - log_q.logsumexp(1, keepdim=True) - torch.tensor(float(tubes)).log()
    return log_q.softmax(1)


@settings(max_examples=60)
@given(problems(), EPSILONS, st.integers(0, 12))
def test_transport_is_the_textbooks(scores: Tensor, epsilon: float, iterations: int) -> None:
    """Against float64: catches overflow at small epsilon, lost digits, an iteration too many."""
    expected = oracle(scores, epsilon, iterations)
    q = transport(scores, epsilon, iterations)
    torch.testing.assert_close(q, expected, rtol=0, atol=Q)
    first, second = expected.topk(2, dim=1).values.T
    clear = first - second > 2 * Q
    assert torch.equal(assign(scores, epsilon, iterations)[clear], expected.argmax(1)[clear])


@settings(max_examples=40)
@given(problems(), EPSILONS, st.integers(1, 12))
def test_rows_sum_to_one(scores: Tensor, epsilon: float, iterations: int) -> None:
    """The last scaling is of rows: each tube's shares sum to one, whatever the scores."""
    q = transport(scores, epsilon, iterations)
    assert (q >= 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones(len(q), dtype=q.dtype), rtol=0, atol=1e-9)


@settings(max_examples=20)
@given(problems(), st.sampled_from([0.1, 0.3, 1.0]))
def test_columns_become_equal(scores: Tensor, epsilon: float) -> None:
    """Every prototype gets the same share of tubes once the iterations have converged."""
    q = transport(scores, epsilon, 1000)
    share = torch.full((scores.shape[1],), len(scores) / scores.shape[1], dtype=q.dtype)
    torch.testing.assert_close(q.sum(0), share, rtol=2e-3, atol=0)


@settings(max_examples=20)
@given(problems(), EPSILONS, st.data())
def test_order_of_tubes_and_prototypes_does_not_matter(
    scores: Tensor, epsilon: float, data: st.DataObject
) -> None:
    """Permuting rows and columns permutes the transport: catches a mixed-up axis or block."""
    rows = torch.tensor(data.draw(st.permutations(range(scores.shape[0]))))
    columns = torch.tensor(data.draw(st.permutations(range(scores.shape[1]))))
    q = transport(scores, epsilon, 5)
    permuted = transport(scores[rows][:, columns], epsilon, 5)
    expected = q[rows][:, columns]
    torch.testing.assert_close(permuted, expected, rtol=0, atol=Q)


@settings(max_examples=20)
@given(problems(), EPSILONS, st.floats(-30, 30))
def test_a_constant_on_all_scores_does_not_matter(
    scores: Tensor, epsilon: float, constant: float
) -> None:
    """exp(constant / epsilon) would overflow where exponents were not kept in bounds."""
    q = transport(scores.double() + constant, epsilon, 3)
    assert q.isfinite().all()
    atol = 1e-4 * abs(constant) / epsilon + 1e-5  # float32 rounding of the shifted scores
    torch.testing.assert_close(q, transport(scores, epsilon, 3), rtol=0, atol=min(atol, 1.0))


@pytest.mark.parametrize("epsilon", [0.005, 0.03])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores(epsilon: float, dtype: torch.dtype) -> None:
    """Scores in half precision must be widened before epsilon divides them."""
    scores = cosines(400, 50, 3, skew=1.0).to(dtype)
    assert torch.equal(assign(scores, epsilon, 10), assign(scores.float(), epsilon, 10))


def test_extreme_scores_stay_finite() -> None:
    """A prototype that no tube is near, a tube near none: exponents of -400 and beyond."""
    scores = torch.full((64, 5), -1.0)
    scores[:, 0] = 1.0
    scores[3] = -1.0
    scores[5, 4] = 1.0
    q = transport(scores, 0.005, 10)
    assert q.isfinite().all()
    torch.testing.assert_close(q, oracle(scores, 0.005, 10), rtol=0, atol=Q)
    assert column_scaling(scores, 0.005, 10).isfinite().all()


def test_identical_tubes_are_assigned_alike() -> None:
    """A collapsed batch must give one defined answer, not noise: ties go to the lowest index."""
    scores = torch.zeros(100, 7)
    assert torch.equal(assign(scores, 0.05, 10), torch.zeros(100, dtype=torch.int64))


def test_even_scores_are_spread_over_all_prototypes() -> None:
    """Ten tubes for every prototype: balanced assignment must find exactly ten for each."""
    scores = cosines(12, 12, 5).softmax(1) * 0.01 + torch.eye(12)
    counts = torch.bincount(assign(scores.repeat(10, 1), 0.05, 10), minlength=12)
    assert counts.tolist() == [10] * 12


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(50, 3000), EPSILONS)
def test_far_fewer_tubes_than_prototypes(tubes: int, prototypes: int, epsilon: float) -> None:
    """Stated behaviour: every tube gets its best share, at most N prototypes are used."""
    scores = cosines(tubes, prototypes, 1)
    q = transport(scores, epsilon, 10)
    assert q.isfinite().all()
    assigned = assign(scores, epsilon, 10)
    assert assigned.shape == (tubes,)
    assert assigned.unique().numel() <= tubes
    best = q.max(1).values
    torch.testing.assert_close(q.gather(1, assigned[:, None]).squeeze(1), best)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_blocks_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of blocks bounds memory only."""
    scores = cosines(123, 11, 2)
    expected = oracle(scores, 0.05, 6)
    monkeypatch.setattr(sinkhorn, "BLOCK", block)
    torch.testing.assert_close(transport(scores, 0.05, 6), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("scores", "epsilon", "iterations"),
    [
        (torch.zeros(0, 4), 0.05, 3),
        (torch.zeros(4), 0.05, 3),
        (torch.zeros(4, 4), 0.0, 3),
        (torch.zeros(4, 4), 0.05, -1),
    ],
)
def test_senseless_arguments_are_refused(scores: Tensor, epsilon: float, iterations: int) -> None:
    """An empty batch or epsilon 0 would give NaN, and NaN a prototype."""
    with pytest.raises(ValueError, match="must be"):
        assign(scores, epsilon, iterations)


def together(parts: list[Tensor], work: Callable[..., Tensor]) -> list[Tensor]:
    """Call `work(part, all_reduce)` for all parts at once, in threads that reduce together."""
    barrier = threading.Barrier(len(parts), timeout=300)
    posted: list[Tensor] = [torch.empty(0)] * len(parts)

    def member(rank: int) -> Tensor:
        def all_reduce(values: Tensor, operation: str) -> Tensor:
            posted[rank] = values
            barrier.wait()
            stack = torch.stack(posted)
            barrier.wait()
            return stack.sum(0) if operation == "sum" else stack.amax(0)

        return work(parts[rank], all_reduce)

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(member, range(len(parts))))


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 90), min_size=2, max_size=4),
    st.integers(2, 40),
    EPSILONS,
    st.sampled_from([0.0, 5.0]),
)
def test_spreading_tubes_over_processes_does_not_matter(
    sizes: list[int], prototypes: int, epsilon: float, skew: float
) -> None:
    """Parts that reduce together must find the transport of the whole, for uneven parts too."""
    scores = cosines(sum(sizes), prototypes, 4, skew)
    parts = list(scores.split(sizes))
    q = torch.cat(together(parts, lambda part, reduce: transport(part, epsilon, 8, reduce)))
    expected = transport(scores, epsilon, 8)
    torch.testing.assert_close(q, expected, rtol=0, atol=Q)


def test_no_gradient_flows_through_an_assignment() -> None:
    """Targets are constants (paper, section 3.2)."""
    scores = cosines(20, 5, 0).requires_grad_()
    assert not transport(scores, 0.05, 3).requires_grad
    assert not column_scaling(scores, 0.05, 3).requires_grad
