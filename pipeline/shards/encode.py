"""How a clip's pictures are stored in a shard: as H.264, as JPEGs, or as bytes.

All three start from the decoded clip. docs/shards.md has the formats, and what each costs.

    h264  KEY.mp4: the decoded clip as it is.
    jpeg  KEY.offsets.npy, KEY.mjpeg: one JPEG a frame, end to end (a Motion JPEG stream), and
          where each begins, int64 (T+1,), the end of the last one included.
    raw   KEY.npy: uint8 (T,H,W,3), RGB, frame after frame.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from pipeline.configuration.schema import Shards
from pipeline.errors import UserError
from pipeline.records import ClipRecord
from pipeline.videos import pictures

SUBSAMPLING = "420"  # of the colours, as in the clip that the frames come from


@dataclass(frozen=True)
class Member:
    """One file of the archive; `size` bytes come in `parts`."""

    extension: str
    size: int
    parts: Iterable[bytes]

    @classmethod
    def of(cls, extension: str, data: bytes) -> Member:
        return cls(extension, len(data), (data,))


def encode(video: bytes, record: ClipRecord, settings: Shards) -> list[Member]:
    """Return the members that hold the clip's pictures; the last one holds the pictures themselves.

    `video` is the decoded clip. Raises UserError where it is not what its record says, for `raw`
    only while the parts are read.
    """
    if settings.codec == "h264":
        return [Member.of("mp4", video)]
    if settings.codec == "jpeg":
        images = [
            simplejpeg.encode_jpeg(
                frame, quality=settings.jpeg_quality, colorsubsampling=SUBSAMPLING
            )
            for frame in _frames(video, record)
        ]
        offsets = np.cumsum([0, *map(len, images)], dtype="<i8")
        return [Member.of("offsets.npy", _npy(offsets)), Member.of("mjpeg", b"".join(images))]
    header = _npy_header((record.frames, record.height, record.width, 3))
    size = len(header) + record.frames * record.height * record.width * 3
    return [Member("npy", size, _raw(header, video, record))]


def _raw(header: bytes, video: bytes, record: ClipRecord) -> Iterator[bytes]:
    """Yield an .npy file frame by frame: a clip of minutes would not fit into memory."""
    yield header
    for frame in _frames(video, record):
        yield frame.tobytes()


def _frames(video: bytes, record: ClipRecord) -> Iterator[pictures.Frame]:
    try:
        yield from pictures.frames(video, (record.frames, record.height, record.width))
    except pictures.DecodeError as error:
        raise UserError(
            f"the decoded file of clip {record.id!r} cannot be decoded: {error}",
            place=record.file,
            remedy="delete the file and its chunk's decoded manifest, then run again",
        ) from None


def _npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def _npy(array: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()
