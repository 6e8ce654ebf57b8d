"""Pictures of what a benchmark found, such as segments, as its stage drew them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.report.results import Results
from pipeline.runtime.pages import data_uri

SHOWN = 2  # of each run
LARGEST = 400_000  # bytes of one in the page; a larger one is left out


@dataclass(frozen=True)
class Overlay:
    """Frames of one clip, their true masks, and a run's clusters, from top to bottom."""

    run: str
    caption: str
    picture: str  # a data: address


def overlays(results: Results) -> list[Overlay]:
    """Return the first pictures of each run and benchmark; none where none was drawn."""
    drawn = []
    for run in results.runs:
        entries = (e for body in run.results.values() for e in body.get("pictures", [])[:SHOWN])
        for entry in entries:
            path = run.layout.folder / entry["file"]
            if path.is_file():
                with Image.open(path) as image:
                    uri = data_uri(np.asarray(image.convert("RGB")))
                if len(uri) <= LARGEST:
                    drawn.append(Overlay(run.name, f"{entry['data']}, clip {entry['id']}", uri))
    return drawn
