"""How a clip's pictures are stored in a shard: as H.264, as JPEGs, or as bytes.

All three start from the decoded clip. docs/shards.md has the formats, and what each costs.

    h264  KEY.mp4: the decoded clip as it is.
    jpeg  KEY.offsets.npy, KEY.mjpeg: one JPEG a frame, end to end (a Motion JPEG stream), and
          where each begins, int64 (T+1,), the end of the last one included.
    raw   KEY.npy: uint8 (T,H,W,3), RGB, frame after frame.

Of `jpeg` and `raw`, parts are read, so each frame has a checksum: KEY.xxh3.npy, XXH3 (64 bits) of
each frame's bytes, uint64 (T,). With `data.shards.motion_vectors` any has KEY.motion.npy, int8
(T,R,C,2) (`shards.motion_vectors`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import xxhash
from numpy.typing import NDArray

from pipeline.configuration.schema import Shards
from pipeline.data.decode.raw_frames import DecodeError, Frame, decode_frames
from pipeline.data.records import ClipRecord
from pipeline.data.shards import motion_vectors
from pipeline.errors import UserError

OFFSETS, CHECKS, MOTION = "offsets.npy", "xxh3.npy", "motion.npy"  # extensions of the tables
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
    """Return the members that hold the clip: the pictures, and where needed tables beside them.

    `video` is the decoded clip. Raises UserError where it is not what its record says, for `raw`
    only while the parts are read.
    """
    members = _pictures(video, record, settings)
    if settings.motion_vectors:
        members.append(Member.of(MOTION, _npy(motion_vectors.of_clip(video, record))))
    return members


def _pictures(video: bytes, record: ClipRecord, settings: Shards) -> list[Member]:
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
        return [
            Member.of(OFFSETS, _npy(offsets)),
            Member.of(CHECKS, _checks([xxhash.xxh3_64_intdigest(image) for image in images])),
            Member.of("mjpeg", b"".join(images)),
        ]
    header = _npy_header((record.frames, record.height, record.width, 3))
    size = len(header) + record.frames * record.height * record.width * 3
    digests: list[int] = []  # known when the pictures are written
    checks = Member(CHECKS, len(_checks([0] * record.frames)), _late(digests))
    return [Member("npy", size, _raw(header, video, record, digests)), checks]


def _raw(header: bytes, video: bytes, record: ClipRecord, digests: list[int]) -> Iterator[bytes]:
    """Yield an .npy file frame by frame: a clip of minutes would not fit into memory."""
    yield header
    for frame in _frames(video, record):
        pixels = frame.tobytes()
        digests.append(xxhash.xxh3_64_intdigest(pixels))
        yield pixels


def _late(digests: list[int]) -> Iterator[bytes]:
    yield _checks(digests)


def _checks(digests: list[int]) -> bytes:
    return _npy(np.array(digests, dtype="<u8"))


def _frames(video: bytes, record: ClipRecord) -> Iterator[Frame]:
    try:
        yield from decode_frames(video, (record.frames, record.height, record.width))
    except DecodeError as error:
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


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()
