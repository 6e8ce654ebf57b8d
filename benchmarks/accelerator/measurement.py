"""One measurement of a section: what a program reads of it, what people do, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """A row of a section's table."""

    record: dict[str, Any]
    line: str
    failures: list[str] = field(default_factory=list)


def relative(value: float, expected: float) -> float:
    """Return the relative difference of two numbers; not a number where one is none."""
    return abs(value - expected) / max(abs(expected), 1e-30)
