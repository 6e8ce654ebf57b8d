"""A training that is stopped in the midst of it, and what must be equal when it has gone on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.configuration.layout import RunLayout
from pipeline.runtime.files import sha256_file
from pipeline.runtime.optimisers import StepValues
from pipeline.training.engines import Engine


def outcome(layout: RunLayout, *others: Path) -> dict[str, str]:
    """Hashes of what must be equal for equal runs, by name: weights, logs, and `others`."""
    files = (layout.weights, layout.metrics, layout.curves, *others)
    return {path.name: sha256_file(path) for path in files}


def move(layout: RunLayout, name: str) -> RunLayout:
    """Put a run's results out of the way, under another name."""
    other = RunLayout(layout.experiment, name)
    layout.folder.rename(other.folder)
    return other


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
