"""Pictures of what benchmarks found, such as segments, as their stages drew them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report.results import Results, RunResult
from pipeline.runtime.pages import data_uri

SHOWN = 2  # of each run and benchmark
LARGEST = 400_000  # bytes of one in the page; a larger one is left out


@dataclass(frozen=True)
class Overlay:
    """What a run's features make of one clip."""

    run: str
    caption: str
    picture: str  # a data: address


@dataclass(frozen=True)
class OverlayGroup:
    """One benchmark's pictures, all runs'; its text says what stands where."""

    title: str
    text: str
    overlays: tuple[Overlay, ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(len(overlay.picture) for overlay in self.overlays)


def overlay_groups(results: Results) -> list[OverlayGroup]:
    """Return each benchmark's first pictures of each run; none where none was drawn."""
    groups = []
    for name, benchmark in BENCHMARKS.items():
        drawn = tuple(
            overlay
            for run in results.runs
            for entry in run.results.get(name, {}).get("pictures", [])[:SHOWN]
            if (overlay := _overlay(run, entry))
        )
        if drawn:
            groups.append(OverlayGroup(*benchmark.pictured, drawn))
    return groups


def _overlay(run: RunResult, entry: Mapping[str, str]) -> Overlay | None:
    path = run.layout.scores_folder / entry["file"]
    if not path.is_file():
        return None
    with Image.open(path) as image:
        uri = data_uri(np.asarray(image.convert("RGB")))
    if len(uri) > LARGEST:
        return None
    return Overlay(run.name, f"{entry['data']}, clip {entry['id']}", uri)
