"""A folder with one sub-folder per class, alone or in folders called train, val and test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.videos.annotations.clip import SPLITS, Clip, id_of

VIDEOS = {
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts",
    ".ogv", ".y4m",
}  # fmt: skip


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the videos of each class; the class is the name of the folder below the split."""
    if not folder.is_dir():
        raise UserError("there is no such folder", place=str(folder))
    count = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in VIDEOS or not path.is_file():
            continue
        parts = path.relative_to(folder).parts
        split = SPLITS.get(parts[0].lower()) if len(parts) > 2 else None
        inner = parts[1:] if split else parts
        if len(inner) < 2:
            raise UserError(
                "a video is in no class's folder",
                place=str(path),
                remedy="move it into one: FOLDER/CLASS/VIDEO or FOLDER/train/CLASS/VIDEO",
            )
        count += 1
        name = "/".join(parts)
        yield Clip(id_of(name.rpartition(".")[0]), name, split or "train", inner[0], group=name)
    if not count:
        raise UserError("there is no video in the folders of this folder", place=str(folder))
