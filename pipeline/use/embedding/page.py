"""The neighbours as one HTML page: strips of frames that live in the page itself.

Every video is decoded anew for it, where it can be killed; the page names
one that is gone or has changed, and why it shows no picture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.configuration.schema import Decode
from pipeline.data.decode.transcode import Segment
from pipeline.data.load import decoders
from pipeline.data.records import Outcome
from pipeline.runtime.pages import data_uri, environment
from pipeline.use.embedding.features_file import Features
from pipeline.use.embedding.neighbours import Hit, Moment, Query
from pipeline.weights.video_clips import shown

TEMPLATES = Path(__file__).parent / "templates"
FRAMES = 8  # of a strip
HEIGHT = 96  # pixels of the shorter side of each
GAP, GREY = 3, 128  # pixels between frames, and their grey
DECODE = Decode(
    short_side=HEIGHT,
    crf=18,
    gop=12,
    preset="veryfast",
    min_frames=1,
    time_limit_s=120,
    memory_limit_mib=4096,
)


@dataclass(frozen=True)
class Strip:
    """A moment's frames as a `data:` address, or why there is none."""

    moment: Moment
    picture: str
    alt: str
    width: int = 0
    height: int = 0
    reason: str = ""
    rank: int = 0  # 0: the query
    similarity: float = 1.0


def render(features: Features, query: Query, hits: Sequence[Hit]) -> str:
    """Return the page as HTML."""
    return (
        environment(TEMPLATES)
        .get_template("neighbours.html")
        .render(
            query=query,
            query_strips=[strip(moment) for moment in query.moments],
            hits=[
                replace(strip(hit.moment), rank=hit.rank, similarity=hit.similarity) for hit in hits
            ],
            about=features.about,
            rows=len(features),
            videos=len(set(features.columns["id"])),
        )
    )


def strip(moment: Moment) -> Strip:
    """Draw some frames of a moment beside each other."""
    path = Path(moment.path)
    if not path.is_file():
        return Strip(moment, "", "", reason="the file is not there any more")
    with tempfile.TemporaryDirectory() as folder:
        segment = Segment(moment.start, moment.end)
        made, content = shown(path, DECODE, segment, Path(folder))
    if made.outcome is not Outcome.OK:
        return Strip(moment, "", "", reason=made.reason)
    count = min(FRAMES, made.frames)
    chosen = np.linspace(0, made.frames - 1, count).round().astype(np.int64)
    try:
        pixels = decoders.read(content, chosen, (made.frames, made.height, made.width))
    except decoders.DecodeError as error:
        return Strip(moment, "", "", reason=str(error))
    gaps = [(0, 0), (0, 0), (0, GAP), (0, 0)]
    spaced = np.pad(pixels, gaps, constant_values=GREY)
    row = np.concatenate(list(spaced), axis=1)[:, :-GAP]
    alt = f"{count} frames of {moment.id}, from {moment.start:.2f} s to {moment.end:.2f} s"
    return Strip(moment, data_uri(row, "jpeg"), alt, row.shape[1], row.shape[0])
