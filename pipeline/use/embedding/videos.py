"""Which videos are to be embedded: files, folders and lists, each with an id of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.decode.transcode import Segment
from pipeline.data.manifest import video_list
from pipeline.data.manifest.folders import videos_in
from pipeline.errors import UserError
from pipeline.weights.video_clips import WHOLE


@dataclass(frozen=True)
class VideoSource:
    """A video, or a segment of one."""

    id: str
    path: Path
    segment: Segment = WHOLE
    label: str = ""
    split: str = ""


def video_sources(arguments: Sequence[str]) -> list[VideoSource]:
    """Return what the arguments name, in their order; files of a folder in the order of names.

    The id of a row of a list is its own, of a file in a folder its place within, of a file its
    name; where two would be equal, the path as it was given.

    Raises:
        UserError: where there is nothing, or rows of a list have no local file, or ids are equal.
    """
    sources = [video for argument in arguments for video in _named(argument)]
    if not sources:
        raise UserError(
            "there is no video to embed",
            place=", ".join(arguments),
            remedy="name files, folders with videos, or a list (CSV with id and path)",
        )
    counts = Counter(video.id for video in sources)
    unique = [
        video
        if counts[video.id] == 1
        else VideoSource(**{**vars(video), "id": video.path.as_posix()})
        for video in sources
    ]
    twice = [name for name, count in Counter(video.id for video in unique).items() if count > 1]
    if twice:
        raise UserError(f"{len(twice)} ids are there twice, such as {twice[0]!r}")
    return unique


def _named(argument: str) -> Iterator[VideoSource]:
    path = Path(argument)
    if path.is_dir():
        yield from _of_folder(path)
    elif path.suffix.lower() == ".csv":
        yield from _of_list(path)
    else:
        yield VideoSource(path.name, path)


def _of_folder(folder: Path) -> Iterator[VideoSource]:
    listing = videos_in(folder)
    if listing.note:
        print(f"passed over in {folder}: {listing.note}", file=sys.stderr)
    for path in listing.videos:
        yield VideoSource(path.relative_to(folder).as_posix(), path)


def _of_list(path: Path) -> Iterator[VideoSource]:
    rows = video_list.read(path)
    elsewhere = [row.id for row in rows if not row.path]
    if elsewhere:
        raise UserError(
            f"{len(elsewhere)} of {len(rows)} rows have no local file, such as {elsewhere[0]!r}",
            place=str(path),
            remedy="fetch them first (`python -m pipeline download`), and list the files",
        )
    for row in rows:
        segment = Segment(row.start, row.end)
        yield VideoSource(row.id, Path(row.path), segment, row.label, row.split)
