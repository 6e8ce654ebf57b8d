"""The method on a device without float64: here the CPU, which is said to have none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.method import capabilities
from pipeline.method.diagnostics import feature_diagnostics
from pipeline.method.losses import SinkhornLoss
from pipeline.method.pixels import to_device
from pipeline.method.propagation import Propagation, propagate
from pipeline.method.sigma import Prediction
from pipeline.method.sinkhorn import assign, transport
from pipeline.method.swapped_assignment import swapped_loss

CPU = torch.device("cpu")
TUBES, PROTOTYPES, WIDTH = 6000, 200, 16


def without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "WITHOUT_FLOAT64", {"cpu"})


def directions(rows: int, seed: int, skew: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, WIDTH, generator=generator) + skew, dim=1)


@pytest.mark.parametrize("epsilon", [0.03, 0.05, 0.2])
def test_float32_sums_suffice(monkeypatch: pytest.MonkeyPatch, epsilon: float) -> None:
    """Catches sums over tubes that lose what decides an assignment, where E is kept."""
    scores = directions(TUBES, 0) @ directions(PROTOTYPES, 1).T
    exact, labels = transport(scores, epsilon, 10), assign(scores, epsilon, 10)
    without_float64(monkeypatch)
    shares = transport(scores, epsilon, 10)
    assert (exact.dtype, shares.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(shares.double(), exact, rtol=0, atol=2e-6)
    assert (assign(scores, epsilon, 10) == labels).float().mean() > 0.999


@pytest.mark.parametrize("epsilon", [0.002, 0.005, 0.02])
def test_a_small_epsilon_stays_exact(monkeypatch: pytest.MonkeyPatch, epsilon: float) -> None:
    """Catches large exponents in float32: the CPU, which takes them, keeps to float64."""
    scores = directions(TUBES, 0) @ directions(PROTOTYPES, 1).T
    exact, labels = transport(scores, epsilon, 10), assign(scores, epsilon, 10)
    without_float64(monkeypatch)
    assert torch.equal(assign(scores, epsilon, 10), labels)
    assert torch.equal(transport(scores, epsilon, 10), exact)


def test_loss_and_diagnostics_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a part of the loss, its gradient or a diagnostic that needs more than float32."""

    def measured() -> list[Tensor]:
        decoded = directions(TUBES, 2).view(20, -1, WIDTH).requires_grad_()
        points = directions(PROTOTYPES, 3).requires_grad_()
        targets = directions(TUBES, 4).view(20, -1, WIDTH)
        settings = SinkhornLoss(PROTOTYPES, epsilon=0.05, iterations=10, temperature=0.1)
        loss, diagnostics = swapped_loss(Prediction(decoded, targets, points), settings)
        loss.backward()  # type: ignore[no-untyped-call]
        features = feature_diagnostics(decoded, targets, lambda values, _: values)
        assert decoded.grad is not None
        assert points.grad is not None
        return [loss.detach(), *diagnostics.values(), *features.values(), decoded.grad, points.grad]

    exact = measured()
    without_float64(monkeypatch)
    for ours, theirs in zip(measured(), exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs.float(), rtol=2e-5, atol=1e-7)


def test_labels_are_carried_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches labels that fade or grow over frames by sums in float32."""
    features = directions(8 * 49, 5).view(8, 49, WIDTH)
    first = torch.eye(3).repeat(17, 1)[:49]
    settings = Propagation(neighbourhood=4, memory=3, neighbours=5)
    exact = propagate(features, first, (7, 7), settings)
    without_float64(monkeypatch)
    torch.testing.assert_close(propagate(features, first, (7, 7), settings), exact)


def test_numbers_arrive_as_the_device_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches float64 targets of a regression that a device would refuse."""
    values = torch.rand(5, dtype=torch.float64)
    assert to_device(values, CPU) is values
    without_float64(monkeypatch)
    assert torch.equal(to_device(values, CPU), values.float())
