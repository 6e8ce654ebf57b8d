"""What comes of the tasks of Benchmark III. Imports nothing that takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.evaluation.severe.scores import Score


@dataclass(frozen=True)
class Done:
    """A task's row, a line per test clip, and the names of the columns of these lines' scores."""

    score: Score
    lines: Sequence[dict[str, Any]]
    classes: Sequence[str]


@dataclass
class Answered:
    """What came of the tasks; `inputs` are the hashes of their data sets' indexes."""

    done: list[Done] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    census: dict[str, dict[str, int]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
