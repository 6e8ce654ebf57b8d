"""A folder with one sub-folder per class, alone or in folders called train, val and test."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.data.manifest import video_list
from pipeline.data.manifest.annotations import path_labels
from pipeline.data.manifest.annotations.files import SPLITS, Clip, id_of
from pipeline.data.manifest.folders import SUFFIXES, videos_in
from pipeline.data.manifest.rows import SOURCES
from pipeline.errors import UserError

LISTS = (".csv", ".tsv", ".txt")
LOOKED_AT = 50  # lines of a file, to find out whether it is a list


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the videos of each class; the class is the name of the folder below the split.

    Raises:
        UserError: there is no video, one is in no class's folder, or a list says otherwise.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder", place=str(folder))
    contents = videos_in(folder)
    if not contents.videos:
        raise UserError(
            "there is no video in the folders of this folder",
            place=str(folder),
            remedy=f"passed over: {contents.note}" if contents.note else "",
        )
    clips = [_clip(path.relative_to(folder).parts) for path in contents.videos]
    _refuse_lists(folder, contents.others, clips)
    alone = [path for path, clip in zip(contents.videos, clips, strict=True) if not clip.label]
    if alone:
        raise UserError(
            f"a video is in no class's folder{_more(len(alone) - 1)}",
            place=str(alone[0]),
            remedy="move it into one: FOLDER/CLASS/VIDEO or FOLDER/train/CLASS/VIDEO",
        )
    if contents.note:
        print(f"passed over in {folder}: {contents.note}")
    ids = Counter(clip.id for clip in clips)
    for clip in clips:  # a.mp4 and a.mov are two clips
        yield clip if ids[clip.id] == 1 else _clip(tuple(clip.name.split("/")), whole=True)


def _clip(parts: tuple[str, ...], *, whole: bool = False) -> Clip:
    """Return the clip of a file; its label is empty where no class's folder holds it.

    `whole`: the id tells the file's suffix, too.
    """
    split = SPLITS.get(parts[0].lower()) if len(parts) > 2 else None
    inner = parts[1:] if split else parts
    name = "/".join(parts)
    clip_id = id_of(name if whole else name.rpartition(".")[0])
    return Clip(clip_id, name, split or "train", inner[0] if len(inner) > 1 else "", group=name)


def _more(count: int) -> str:
    return f", and {count:,} others are not" if count else ""


def _refuse_lists(folder: Path, others: list[Path], clips: list[Clip]) -> None:
    """Refuse a folder with a list of videos in it: the labels stand there, not in names of folders.

    A list that says the same as the folders, such as one that was written from them, is no harm.
    """
    for path in others:
        if path.suffix.lower() not in LISTS or not (kind := _kind_of_list(path)):
            continue
        if kind == "list" and _says_the_same(folder, path, clips):
            continue
        use = f"data.manifest={path}" if kind == "list" else (
            f"`python -m pipeline manifest path-label --annotations {path}`"
        )  # fmt: skip
        classes = sorted({clip.label for clip in clips if clip.label})
        named = ", ".join(classes[:3]) + (" ..." if len(classes) > 3 else "")
        raise UserError(
            f"there is a list of videos in this folder, so its sub-folders ({named}) may be no "
            "classes",
            place=str(path),
            remedy=f"use the list: {use}; or move it elsewhere, to take the sub-folders' names for "
            "labels all the same",
        )


def _kind_of_list(path: Path) -> str:
    """Return `list` for a list of this project, `path-label` for another one, else nothing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            text = [line.strip() for line in islice(handle, LOOKED_AT) if line.strip()]
    except (OSError, UnicodeDecodeError):
        return ""
    if not text:
        return ""
    names = {name.strip() for name in next(csv.reader(text[:1]), [])}
    if "id" in names and names & set(SOURCES):
        return "list"
    header = path_labels.header_of(text[0])
    if header and path_labels.LABELS & set(header):
        return "path-label"
    paths = [path_labels.parsed(line) for line in text]
    named = [each is not None and Path(each[0]).suffix.lower() in SUFFIXES for each in paths]
    return "path-label" if all(named) else ""


def _says_the_same(folder: Path, path: Path, clips: list[Clip]) -> bool:
    labels = {folder / clip.name: clip.label for clip in clips}
    try:
        return all(labels.get(Path(row.path)) == row.label for row in video_list.read(path))
    except UserError:
        return False
