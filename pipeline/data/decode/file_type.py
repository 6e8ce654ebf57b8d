"""What kind of file a video, or what lies in its place, is: by its first bytes."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.data.decode.timeline import Times

# Files that are often found in the place of a video, by how they begin.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive",
    b"Rar!": "a rar archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
}
_PAGE = re.compile(rb"\s*<(!--|(!doctype|html|head|body|\?xml)\b)", re.IGNORECASE)
_PRINTABLE = bytes({*range(32, 256), *b"\t\n\r\f"})


def not_a_video(path: Path) -> str:
    """Say what a file is that its first bytes show not to be a video; empty for all others."""
    with path.open("rb") as handle:
        start = handle.read(1024)
    if not start:
        return "an empty file"
    for signature, name in _SIGNATURES.items():
        if start.startswith(signature):
            return f"{name}, not a video"
    if is_page(start):
        return "a web page, not a video"
    if is_text(start) and not start.startswith(b"YUV4MPEG2"):
        return "a text file, not a video"
    return ""


def is_page(start: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    return _PAGE.match(start.removeprefix(b"\xef\xbb\xbf")) is not None


def riff_cut_short(path: Path) -> bool:
    """Whether an AVI ends before its first RIFF list does.

    ffmpeg says nothing of it: it takes the share of the file that is there for the whole.
    """
    with path.open("rb") as handle:
        start = handle.read(8)
    size = int.from_bytes(start[4:8], "little")
    unknown = size in (0, 0xFFFFFFFF)  # written as a stream
    return start[:4] == b"RIFF" and not unknown and size + 8 > path.stat().st_size


def has_exact_index(path: Path) -> bool:
    """Whether a file can be read from its midst and its pictures' times are right all the same.

    So it is with MP4 and its like and with Matroska and WebM, which say the time of each picture
    and which are keyframes.
    """
    with path.open("rb") as handle:
        start = handle.read(8)
    boxes = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return start[4:] in boxes or start.startswith(b"\x1aE\xdf\xa3")


def delays_pictures(path: Path) -> bool:
    """Whether a file is an AVI, where pictures with B-frames come later than their time by as many
    as the decoder holds back; its sound does not."""
    with path.open("rb") as handle:
        return handle.read(4) == b"RIFF"


def times(path: Path) -> Times:
    """Return what the times of a file's pictures are (`timeline.TimeRange.times`).

    In an MPEG program stream few pictures say theirs: with open groups ffmpeg guesses that of some
    a few frames early. ASF (WMV) says one time only, taken for that of decoding.
    """
    with path.open("rb") as handle:
        start = handle.read(4)
    if start == b"\0\0\1\xba":
        return "watched"
    return "decoding" if start == b"\x30\x26\xb2\x75" else "told"


def is_text(start: bytes) -> bool:
    """Whether a file that begins so can be a text, as far as that shows."""
    start = start.removeprefix(b"\xef\xbb\xbf")
    if start.translate(None, _PRINTABLE):
        return False
    try:
        start[: max(1, len(start) - 3)].decode()  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return True
