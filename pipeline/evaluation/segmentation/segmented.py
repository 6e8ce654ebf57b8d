"""What comes of Benchmark II. Imports nothing that takes seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.evaluation.segmentation.scores import Score


@dataclass
class Segmented:
    """What came of the data sets; `inputs` are hashes of their indexes or folders."""

    rows: list[Score] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)  # lines of segmentation.parquet
    pictures: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    census: dict[str, dict[str, int]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
