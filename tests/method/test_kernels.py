"""Triton's kernels give the numbers of the plain code: under its interpreter, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="kernels are for accelerators that Triton knows")

COMPARED = """
import json, sys, torch
from pipeline.method import accelerated, sinkhorn

torch.manual_seed(0)
found = {}
for n, k in ((1, 1), (7, 5), (130, 96), (33, 300), (5, 5000)):
    scores = torch.rand(n, k) * 2 - 1
    exact = scores.double()
    u = torch.rand(k).add(0.1)
    e = (exact / 0.05).exp()
    pairs = {
        "first": (accelerated.column_sums(scores, None, 0.05), e.sum(0)),
        "sums": (
            accelerated.column_sums(scores, u, 0.05), (e / (e @ u.double())[:, None]).sum(0)
        ),
    }
    labels = accelerated.assignments(scores, u, 0.05)
    found[f"{n} {k} labels"] = int((labels != (e * u).argmax(1)).sum())
    for dtype in (torch.float32, torch.bfloat16):
        shares, partitions = accelerated.softmax_rows(scores, 0.1, dtype)
        pairs[f"shares {dtype}"] = (shares, (exact / 0.1).softmax(1).to(dtype))
        pairs[f"partitions {dtype}"] = (partitions, (exact / 0.1).logsumexp(1))
    for name, (ours, expected) in pairs.items():
        error = (ours.double() - expected.double()).abs().max() / expected.double().abs().max()
        found[f"{n} {k} {name}"] = float(error)

scores = torch.rand(120, 40) * 2 - 1
expected = sinkhorn.assign(scores, 0.05, 10, bound=1.0)
ours = sinkhorn._assign_on_accelerator(scores, 0.05, 10, lambda values, _: values)
found["Sinkhorn"] = int((ours != expected).sum())
print(json.dumps(found))
"""


def test_kernels_give_the_numbers_of_the_plain_code(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a kernel that reads or writes beyond its matrix, leaves rows out, or sums wrongly:
    at sizes that are and are not powers of two, in a process of its own, as the interpreter is
    chosen when Triton is imported."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = subprocess.run(
        [sys.executable, "-c", COMPARED], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    for name, error in found.items():
        bound = 0.008 if "bfloat16" in name and "shares" in name else 3e-6
        assert error <= bound, f"{name}: {error}"
