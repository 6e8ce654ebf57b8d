"""A training that is stopped in the midst of it, and what must be equal when it has gone on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.configuration.layout import RunLayout
from pipeline.runtime.files import sha256_file
from pipeline.runtime.optimisers import StepValues
from pipeline.training.engines import Engine


def outcome(layout: RunLayout) -> tuple[str, bytes]:
    """What must be equal for equal runs: the weights' hash and the metrics log."""
    return sha256_file(layout.weights), layout.metrics.read_bytes()


def interrupt_step(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[int]:
    """Interrupt the optimiser's step of this number, from 0; the next value counts all steps."""
    steps = iter(range(100))
    original = Engine.step

    def step(engine: Engine, values: StepValues) -> torch.Tensor:
        if next(steps) == number:
            raise KeyboardInterrupt
        return original(engine, values)

    monkeypatch.setattr(Engine, "step", step)
    return steps
