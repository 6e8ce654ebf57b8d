"""The videos in a folder: which files are taken for videos, and which are passed over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

# What is taken from a folder, in small letters or capitals: what people, cameras and data sets call
# videos, as far as ffmpeg reads them. A file that is named by itself is tried, however called.
_NAMES = (
    "264 265 3g2 3gp asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg "
    "mk3d mkv mod mov mp4 mpe mpeg mpg mpv mts mxf nut obu ogg ogm ogv qt rm rmvb swf tod ts "
    "vc1 vob webm wmv wtv xvid y4m"
)
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
SHOWN = 6  # suffixes that are named


class FolderContents(NamedTuple):
    """What is in a folder and its sub-folders, but for hidden files (`.name`)."""

    videos: list[Path]  # in the order of their names
    others: list[Path]  # that are passed over

    @property
    def note(self) -> str:
        """Say how many files of which suffix were passed over; empty where none was."""
        counts = Counter(path.suffix.lower() for path in self.others)
        first = counts.most_common(SHOWN)
        named = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in first)
        rest = len(self.others) - sum(count for _, count in first)
        return f"{named} and {rest:,} others" if rest else named


def videos_in(folder: Path) -> FolderContents:
    """Return the videos in a folder and its sub-folders."""
    contents = FolderContents([], [])
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if not path.is_file():
            continue
        (contents.videos if path.suffix.lower() in SUFFIXES else contents.others).append(path)
    return contents
