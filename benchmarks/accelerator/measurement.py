"""One measurement of a section: what a program reads of it, what people do, and what is wrong."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

from benchmarks import pretrain_step


@dataclass(frozen=True)
class Measurement:
    """A row of a section's table."""

    record: dict[str, Any]
    line: str
    failures: list[str] = field(default_factory=list)


def relative(value: float, expected: float) -> float:
    """Return the relative difference of two numbers; not a number where one is none."""
    return abs(value - expected) / max(abs(expected), 1e-30)


def step_arguments(
    options: argparse.Namespace, model: str, objective: str, clips: int, *further: str
) -> argparse.Namespace:
    """Return what `benchmarks.pretrain_step` is asked for a step in bfloat16."""
    arguments = ["--model", model, "--objective", objective, "--batch-size", str(clips)]
    arguments += ["--device", options.device, "--precision", "bf16", *further]
    if options.small:
        arguments += ["--frames", "4", "--size", "64"]
    return pretrain_step.parser().parse_args(arguments)
