"""Damaged variants of a video file, each a pure function of (content, kind, seed)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MAGIC = {  # how files of these formats begin
    ".mp4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41",
    ".mkv": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04",
    ".webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm",
    ".avi": b"RIFF\x00\x10\x00\x00AVI LIST\x00\x01\x00\x00hdrlavih",
    ".ts": b"\x47\x40\x11\x10\x00\x42\xf0\x25\x00\x01\xc1\x00\x00",
    ".flv": b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00",
}

Damage = Callable[[bytes, str, np.random.Generator], bytes]


def _range(size: int, rng: np.random.Generator, longest: float = 0.2) -> slice:
    length = max(1, int(size * longest * rng.random() ** 3))
    start = int(rng.integers(0, max(1, size - length)))
    return slice(start, start + length)


def flip_bits(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """1 to 64 single bits, anywhere."""
    data = bytearray(content)
    for place in rng.integers(0, len(data), int(2 ** rng.integers(0, 7))):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def truncate(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """An interrupted download."""
    return content[: int(rng.integers(1, len(content)))]


def zero(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """A block that was never written, as of a download with holes."""
    data = bytearray(content)
    part = _range(len(data), rng)
    data[part] = bytes(part.stop - part.start)
    return bytes(data)


def drop(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """A range that is missing, so that all behind it is shifted."""
    part = _range(len(content), rng)
    return content[: part.start] + content[part.stop :]


def header(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Some numbers of the header replaced by extreme ones."""
    data = bytearray(content)
    # mp4 keeps its numbers in `moov`, wherever that is; the others in the first few hundred bytes.
    at = content.find(b"moov")
    first, last = (at, min(len(data), at + 1500)) if at > 0 else (4, min(len(data), 600))
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(first, last - 4))
        struct.pack_into(">I", data, place, EXTREMES[int(rng.integers(len(EXTREMES)))])
    return bytes(data)


def swap(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Two boxes of an mp4 exchanged, or two ranges of any other file."""
    boxes = _boxes(content) if suffix == ".mp4" else []
    if len(boxes) >= 2:
        first, second = sorted(rng.choice(len(boxes), 2, replace=False))
        one, two = boxes[first], boxes[second]
    else:
        quarter = len(content) // 4
        start = int(rng.integers(0, quarter))
        length = int(rng.integers(1, quarter))
        one, two = slice(start, start + length), slice(2 * quarter, 2 * quarter + length)
    middle = content[one.stop : two.start]
    return content[: one.start] + content[two] + middle + content[one] + content[two.stop :]


def _boxes(content: bytes) -> list[slice]:
    """Return the top-level boxes of an mp4 (ISO/IEC 14496-12, section 4.2)."""
    boxes, start = [], 0
    while start + 8 <= len(content):
        size = int(struct.unpack_from(">I", content, start)[0])
        if size < 8:
            break
        boxes.append(slice(start, min(len(content), start + size)))
        start += size
    return boxes


def join(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """A part of the file put behind it, or it behind a part of itself."""
    part = content[_range(len(content), rng, 1.0)]
    return content + part if rng.random() < 0.5 else part + content


def noise(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Random bytes that begin as a file of this format does."""
    return MAGIC[suffix] + rng.bytes(int(rng.integers(1, 50_000)))


KINDS: dict[str, Damage] = {
    each.__name__: each for each in (flip_bits, truncate, zero, drop, header, swap, join, noise)
}


def damaged(content: bytes, suffix: str, kind: str, seed: int) -> bytes:
    """Return the damaged file; `seed` decides where and how much."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    return KINDS[kind](content, suffix, rng)
