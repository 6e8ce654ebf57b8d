"""Faster kernels may round differently, but not more coarsely than float32."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.runtime import devices

CPU = torch.device("cpu")
SIZE = st.integers(1, 300)


@settings(max_examples=40)
@given(rows=SIZE, inner=SIZE, columns=SIZE, seed=st.integers(0, 2**31))
def test_products_stay_float32(rows: int, inner: int, columns: int, seed: int) -> None:
    """Catches a processor or a version of oneDNN that makes use of the permission to round.

    Float32's error in a sum of `inner` products is at most inner * 2^-24 of the sum of their
    sizes; bfloat16's would be about 2^-9.
    """
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, inner, generator=generator)
    right = torch.randn(columns, inner, generator=generator)
    bound = (inner + 2) * 2**-24 * (left.double().abs() @ right.double().abs().T) + 1e-12
    with devices.fast_fp32(CPU, tokens=64):
        forward = left @ right.T
        linear = torch.nn.functional.linear(left, right)
        transposed = (right @ left.T).T
    exact = left.double() @ right.double().T
    for measured in (forward, linear, transposed):
        assert ((measured.double() - exact).abs() <= bound).all()


def test_coarse_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a probe that bfloat16 would pass: it is shown bfloat16's own products."""
    assert devices.products_are_exact()
    exact = torch.Tensor.__matmul__

    def coarse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype is torch.float64:
            return exact(a, b)
        return exact(a.bfloat16(), b.bfloat16()).float()

    monkeypatch.setattr(torch.Tensor, "__matmul__", coarse)
    assert not devices.products_are_exact()
    with devices.fast_fp32(CPU, tokens=64) as is_fast:
        assert not is_fast


def test_what_cannot_be_repeated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a training that is called deterministic and is not, and a setting that leaks."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def overwrite() -> None:  # which of two values stays is up to the threads
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))

    with devices.deterministic(False, "here"):
        overwrite()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with (
        pytest.raises(UserError, match="put_ does not have") as refused,
        devices.deterministic(True, "here"),
    ):
        overwrite()
    assert refused.value.place == "here"
    with pytest.raises(RuntimeError, match="another"), devices.deterministic(True, "here"):
        raise RuntimeError("another")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    overwrite()


def test_everything_is_put_back() -> None:
    """Catches a setting that leaks into what runs after training in the same process."""

    def current() -> tuple[object, ...]:
        return torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.flash_sdp_enabled()

    before = current()
    with pytest.raises(RuntimeError, match="stop"), devices.fast_fp32(CPU, tokens=64):
        raise RuntimeError("stop")
    assert current() == before
