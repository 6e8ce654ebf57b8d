"""A clip on one picture: some of its frames side by side, each with its number."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from pipeline.data.load import clip_reader
from pipeline.data.load.decoders import DecodeError
from pipeline.data.load.failed_clips import ClipError
from pipeline.data.load.sampling import per_segment_centred
from pipeline.data.shards.format import ClipEntry

FRAMES, COLUMNS = 16, 4
WIDEST = 320  # pixels of one frame on the sheet
MARGIN = 14  # pixels above each frame, for its number


def draw(entry: ClipEntry) -> Image.Image:
    """Return up to `FRAMES` frames, evenly spread over the clip, in rows of `COLUMNS`.

    Raises ClipError where the clip cannot be read.
    """
    count = min(FRAMES, entry.frames)
    indices = per_segment_centred(entry.frames, count, views=1)[0]
    try:
        frames = clip_reader.read(entry, indices)
    except DecodeError as error:
        problem = f"clip {entry.id!r} cannot be decoded: {error}"
        raise ClipError(problem, place=str(entry.shard)) from None
    scale = min(1.0, WIDEST / entry.width)
    width, height = max(1, round(entry.width * scale)), max(1, round(entry.height * scale))
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (index, frame) in enumerate(zip(indices, frames, strict=True)):
        left, top = place % columns * width, place // columns * (height + MARGIN)
        pen.text((left + 2, top + 1), str(index), fill="black")
        picture = Image.fromarray(np.ascontiguousarray(frame)).resize((width, height))
        sheet.paste(picture, (left, top + MARGIN))
    return sheet
