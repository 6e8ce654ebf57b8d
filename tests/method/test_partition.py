"""The log partition and its gradient without an N x K matrix, and the memory of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from benchmarks.peak_memory import STATUS, PeakMemory
from pipeline.method import log_partition as partition
from pipeline.method.log_partition import mean_log_partition
from pipeline.method.losses import SinkhornLoss
from pipeline.method.sigma import Prediction
from pipeline.method.sinkhorn import assign
from pipeline.method.swapped_assignment import swapped_loss


def directions(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, width, generator=generator), dim=1)


@settings(max_examples=30)
@given(
    st.integers(1, 80),
    st.integers(1, 12),
    st.integers(1, 40),
    st.sampled_from([0.003, 0.1, 1.0]),
    st.sampled_from([1, 50, 1 << 20]),
)
def test_value_and_gradients_are_those_of_autograd(
    tubes: int, width: int, prototypes: int, temperature: float, block: int
) -> None:
    """Against logsumexp in float64, with blocks that divide the tubes and that do not: catches a
    factor, an overflow at a low temperature, a block left out or counted twice."""
    features, points = directions(tubes, width, 0), directions(prototypes, width, 1)
    exact = [part.double().requires_grad_() for part in (features, points)]
    expected = (exact[0] @ exact[1].T / temperature).logsumexp(1).mean()
    (3 * expected).backward()
    given_ = [part.clone().requires_grad_() for part in (features, points)]
    scores = torch.empty(tubes, prototypes)
    before, partition.BLOCK = partition.BLOCK, block
    try:
        found = mean_log_partition(*given_, temperature, scores)
    finally:
        partition.BLOCK = before
    (3 * found).backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores, features @ points.T, rtol=0, atol=1e-6)
    for ours, theirs in zip(given_, exact, strict=True):
        atol = 3e-6 / temperature
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=atol)


def test_only_what_needs_a_gradient_gets_one() -> None:
    """The decoder's branch must not move the prototypes, nor a frozen target its features."""
    features, points = directions(9, 4, 0), directions(5, 4, 1)
    mean_log_partition(features.requires_grad_(), points, 0.1).backward()
    assert points.grad is None
    with torch.no_grad():
        assert not mean_log_partition(features, points, 0.1).requires_grad
    fixed = features.detach()
    mean_log_partition(fixed, points.requires_grad_(), 0.1).backward()
    assert points.grad is not None
    assert fixed.grad is None


def test_scores_stay_float32_under_mixed_precision_on_a_cpu() -> None:
    """Epsilon divides their rounding errors: bfloat16's would be 2e-3."""
    features, points = directions(40, 16, 0), directions(30, 16, 1)
    scores = torch.empty(40, 30)
    expected = mean_log_partition(features, points, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mean_log_partition(features, points, 0.1), expected)
        mean_log_partition(features, points, 0.1, scores)
    torch.testing.assert_close(scores, features @ points.T, rtol=0, atol=1e-6)


LOSS = SinkhornLoss(prototypes=3000, epsilon=0.05, iterations=3, temperature=0.1)
TUBES = 6000


def branches() -> list[Tensor]:
    """Decoder's features, targets and prototypes."""
    decoded, targets = (directions(TUBES, 64, seed).requires_grad_() for seed in (2, 3))
    return [decoded, targets, directions(3000, 64, 4).requires_grad_()]


def ours(decoded: Tensor, targets: Tensor, points: Tensor, settings: SinkhornLoss = LOSS) -> Tensor:
    prediction = Prediction(decoded[None], targets[None], points)
    return swapped_loss(prediction, settings)[0]


def straightforward(decoded: Tensor, targets: Tensor, points: Tensor) -> Tensor:
    decoded, targets = (functional.normalize(part, dim=1) for part in (decoded, targets))
    scores = [decoded @ points.detach().T, targets @ points.T]
    labels = []
    with torch.no_grad():
        for part in scores:
            q = torch.exp(part / LOSS.epsilon).T
            for _ in range(LOSS.iterations):
                q /= q.sum(1, keepdim=True)
                q /= q.sum(0, keepdim=True)
            labels.append(q.argmax(0))
            del q
    logits = [part / LOSS.temperature for part in scores]
    return functional.cross_entropy(logits[1], labels[0]) + functional.cross_entropy(
        logits[0], labels[1]
    )


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_target_branch_has_its_weight(weight: float) -> None:
    """Catches a weight on the wrong branch, or one that the decoder's features feel, too."""
    tensors = {each: branches() for each in (0.0, weight, 1.0)}
    losses = {w: ours(*three, replace(LOSS, target_weight=w)) for w, three in tensors.items()}
    for loss in losses.values():
        loss.backward()
    whole = losses[1.0] - losses[0.0]
    assert float(whole.detach()) > 1
    torch.testing.assert_close(losses[weight], losses[0.0] + weight * whole)
    of_some, of_whole = ([part.grad for part in tensors[w]] for w in (weight, 1.0))
    assert torch.equal(of_some[0], of_whole[0])
    for some, whole in zip(of_some[1:], of_whole[1:], strict=True):
        torch.testing.assert_close(some, weight * whole)


def test_no_matrix_of_tubes_by_prototypes_waits_for_the_backward_pass() -> None:
    """At 3,000 prototypes such a matrix is what memory goes into."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours(*branches())
    assert kept
    assert max(kept) < TUBES * 3000 * 4 / 8


@pytest.mark.skipif(not STATUS.exists(), reason="the highest memory is measured on Linux alone")
def test_the_loss_takes_less_than_half_of_the_memory() -> None:
    """Peak of forward and backward pass against the plain way of writing it, which finds the same
    loss and the same gradients."""
    memory = PeakMemory(torch.device("cpu"))

    def taken(loss: Callable[..., Tensor]) -> tuple[Tensor, list[Tensor], int]:
        tensors = branches()
        memory.begin()
        value = loss(*tensors)
        value.backward()
        return value, [tensor.grad for tensor in tensors], memory.highest()

    plain, plain_gradients, plain_peak = taken(straightforward)
    value, gradients, peak = taken(ours)
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)
    for mine, theirs in zip(gradients, plain_gradients, strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()
    assert peak < plain_peak / 2, f"{peak >> 20} of {plain_peak >> 20} MiB"


def test_scores_are_overwritten_only_where_that_is_allowed() -> None:
    """A caller's scores must not become exponentials behind its back; and a known bound changes
    nothing but the waiting."""
    scores = directions(50, 8, 5) @ directions(20, 8, 6).T
    kept = scores.clone()
    expected = assign(scores, 0.05, 5)
    assert torch.equal(scores, kept)
    assert torch.equal(assign(scores, 0.05, 5, bound=1.001), expected)
    assert torch.equal(assign(scores, 0.05, 5, bound=1e6), expected)  # the way of logarithms
    assert torch.equal(scores, kept)
    assert torch.equal(assign(scores, 0.05, 5, overwrite=True), expected)
