"""How far the parts of each picture moved since the one before, as the H.264 of a clip tells.

The encoder looked for it when the clip was decoded and written anew, so it costs a pass of decoding
and no search. With presets that refer to older pictures (`data.decode.preset`: slower than
`veryfast`) a vector may reach back further than one; nothing tells which.

Shapes: T frames, R rows and C columns of cells.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.records import ClipRecord
from pipeline.errors import UserError, how_to_install

CELL = 8  # pixels of a cell's sides: the smallest part that ffmpeg gives a vector for
UNIT = 2  # numbers to a pixel: vectors are kept in halves, and up to 63.5 pixels

Vectors = NDArray[np.int8]  # T,R,C,2: x, y


def cells(height: int, width: int) -> tuple[int, int]:
    """Return R and C of pictures of this size; cells at the ends may be cut off."""
    return -(-height // CELL), -(-width // CELL)


def of_clip(video: bytes, record: ClipRecord) -> Vectors:
    """Return the vectors of a decoded clip; those of a picture without (a keyframe) are the next's.

    Where a part of a picture has none, it is 0.

    Raises:
        UserError: where PyAV is not installed, or the clip is not what its record says.
    """
    shape = cells(record.height, record.width)
    found = [_of_frame(frame, shape) for frame in _frames(video, record)]
    if len(found) != record.frames:
        raise UserError(
            f"clip {record.id!r} has {len(found)} frames, its record says {record.frames}",
            place=record.file,
            remedy="delete the file and its chunk's decoded manifest, then run again",
        )
    vectors = np.zeros((record.frames, *shape, 2), np.int8)
    later: Vectors | None = None
    for number in reversed(range(record.frames)):
        later = found[number] if found[number] is not None else later
        if later is not None:
            vectors[number] = later
    return vectors


def _frames(video: bytes, record: ClipRecord) -> list[NDArray[Any] | None]:
    """Return libavcodec's table of vectors for each picture; None where it has none."""
    try:
        import av
    except ImportError:
        raise UserError(
            "motion vectors are read with PyAV, which is not installed",
            place="data.shards.motion_vectors",
            remedy=how_to_install("motion-vectors"),
        ) from None
    tables: list[NDArray[Any] | None] = []
    try:
        with av.open(io.BytesIO(video), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"flags2": "+export_mvs"}
            for frame in container.decode(stream):
                table = frame.side_data.get("MOTION_VECTORS")
                tables.append(None if table is None else table.to_ndarray())
    except av.FFmpegError as error:
        raise UserError(
            f"the decoded file of clip {record.id!r} cannot be decoded: {error}", place=record.file
        ) from None
    return tables


def _of_frame(table: NDArray[Any] | None, shape: tuple[int, int]) -> Vectors | None:
    """Return the mean vector of each cell, (R,C,2), of a picture's table."""
    if table is None:
        return None
    table = table[table["source"] < 0]  # of pictures before it
    moved = (
        np.stack((table["motion_x"], table["motion_y"]), axis=1) / table["motion_scale"][:, None]
    )
    wide, tall = (table[side].astype(np.int64) for side in ("w", "h"))
    left, top = table["dst_x"] - wide // 2, table["dst_y"] - tall // 2
    area = np.minimum(wide, CELL) * np.minimum(tall, CELL)
    sums, weights = np.zeros((*shape, 2)), np.zeros(shape)
    for down in range(0, 16, CELL):  # the largest part has 16 x 16 pixels
        for right in range(0, 16, CELL):
            rows, columns = (top + down) // CELL, (left + right) // CELL
            inside = (down < tall) & (right < wide) & (rows >= 0) & (columns >= 0)
            inside &= (rows < shape[0]) & (columns < shape[1])
            place = rows[inside], columns[inside]
            np.add.at(weights, place, area[inside])
            np.add.at(sums, place, moved[inside] * area[inside, None])
    mean = sums / np.maximum(weights, 1)[..., None]
    return np.clip(np.rint(UNIT * mean), -127, 127).astype(np.int8)
