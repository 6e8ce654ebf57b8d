"""The picture size of an mp4 file that this project wrote, from the file itself.

ffmpeg's log says it too, but puts that line together piece by piece while its other threads write
theirs in between: once in some thousand clips the line cannot be read.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# The way to the sample description (ISO/IEC 14496-12, section 8); each is the first of its kind,
# as there is one track.
PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels, as stored; `ValueError` where the file has none."""
    with path.open("rb") as file:
        end = path.stat().st_size
        for kind in PATH:
            end = _enter(file, kind, end)
        # stsd: version and flags (4), count (4); the entry: size and kind (8), reserved (6),
        # reference (2), reserved (16), width (2), height (2).
        body = file.read(44)
    if len(body) < 44:
        raise ValueError(f"{path.name}: its sample description is cut short")
    width, height = struct.unpack(">HH", body[40:44])
    return width, height


def _enter(file: BinaryIO, kind: bytes, end: int) -> int:
    """Move to the contents of the first box of this kind before `end`; return where they end."""
    while file.tell() + 8 <= end:
        start = file.tell()
        size, box = struct.unpack(">I4s", file.read(8))
        if size == 1:  # a 64-bit size follows
            size = struct.unpack(">Q", file.read(8))[0]
        if size < 8:
            break
        if box == kind:
            return int(start + size)
        file.seek(start + size)
    raise ValueError(f"there is no {kind.decode()} box")
