"""Videos with masks as they are shipped: DAVIS 2017 and YouTube-VOS.

    DAVIS       ROOT/JPEGImages/480p/VIDEO/00000.jpg   ROOT/Annotations/480p/VIDEO/00000.png
                ROOT/ImageSets/2017/val.txt (a video a line)
    YouTube-VOS ROOT/train/JPEGImages/VIDEO/00000.jpg  ROOT/train/Annotations/VIDEO/00000.png
                ROOT/train/meta.json (its `videos` are the list)

Masks are PNG files whose pixels are numbers: 0 is the background, 255 (void) counts nowhere, any
other an object. YouTube-VOS labels each fifth frame; only frames with a mask are looked at.
Which files these are, and in which order: `frame_files`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.configuration.schema import MaskFolder
from pipeline.errors import UserError
from pipeline.evaluation.segmentation import frame_files
from pipeline.runtime.files import read_json

Pixels = NDArray[np.uint8]
# What Pillow raises; its UnidentifiedImageError is an OSError.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
LAYOUT = "docs/segmentation.md shows how the folders lie"


class UnreadableError(Exception):
    """A video of the list that is not there, or damaged: it is counted and left out."""


@dataclass(frozen=True)
class Video:
    """One video of the list: pictures and masks of the frames that have both, in their order."""

    id: str
    pictures: tuple[Path, ...]
    masks: tuple[Path, ...]
    problem: str = ""  # why there are none
    is_unclear: bool = False  # the files are there, but not which is which

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, places: NDArray[np.int64]) -> tuple[Pixels, Pixels]:
        """Return frames (T,H,W,3) and masks (T,H,W) of these places, uint8.

        Raises:
            UnreadableError: where a file is damaged, is no mask, or its size is another one.
        """
        frames = [_picture(self.pictures[place]) for place in places]
        masks = [_mask(self.masks[place]) for place in places]
        sizes = {frame.shape[:2] for frame in frames} | {mask.shape for mask in masks}
        if len(sizes) > 1:
            raise UnreadableError(f"pictures and masks of several sizes: {sorted(sizes)}")
        return np.stack(frames), np.stack(masks)


def videos(settings: MaskFolder) -> list[Video]:
    """Return the videos that the data set's own list names, in its order.

    A video without a frame is there, too: with none to read.

    Raises:
        UserError: where a folder or the list is missing, or names no video.
    """
    root = Path(settings.root)
    if settings.kind == "davis2017":
        pictures = root / "JPEGImages" / settings.resolution
        masks = root / "Annotations" / settings.resolution
        listed = _davis_list(root / "ImageSets" / "2017" / f"{settings.split}.txt")
    else:
        pictures = root / settings.split / "JPEGImages"
        masks = root / settings.split / "Annotations"
        listed = _youtube_list(root / settings.split / "meta.json")
    for folder in (pictures, masks):
        if not folder.is_dir():
            raise UserError(
                f"data set {settings.name!r} has no such folder", place=str(folder), remedy=LAYOUT
            )
    return [_video(name, pictures / name, masks / name) for name in listed]


def digest(videos: list[Video]) -> str:
    """Return a hash of the names and sizes of all files: reading every byte would take hours."""
    files = [path for video in videos for path in (*video.pictures, *video.masks)]
    lines = (f"{path.parent.name}/{path.name} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _video(name: str, pictures: Path, masks: Path) -> Video:
    try:
        frames, problem = frame_files.pairs(pictures, masks)
    except frame_files.UnclearError as error:
        return Video(name, (), (), str(error), is_unclear=True)
    return Video(name, tuple(p for p, _ in frames), tuple(m for _, m in frames), problem)


def _davis_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        raise UserError("there is no list of videos", place=str(path), remedy=LAYOUT) from None
    except UnicodeDecodeError:
        raise UserError("the list of videos is no text", place=str(path), remedy=LAYOUT) from None
    return _checked([line.strip() for line in lines if line.strip()], path)


def _youtube_list(path: Path) -> list[str]:
    try:
        return _checked(sorted(read_json(path)["videos"]), path)
    except FileNotFoundError:
        raise UserError("there is no list of videos", place=str(path), remedy=LAYOUT) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"this is not YouTube-VOS's meta.json: {error!r}"
        raise UserError(problem, place=str(path), remedy=LAYOUT) from None


def _checked(names: list[str], path: Path) -> list[str]:
    """Refuse an empty list, and names that would lead out of the data set's folder."""
    strange = [name for name in names if Path(name).name != name or name in {".", ".."}]
    if strange or not names:
        problem = f"not a video's name: {strange[0]!r}" if strange else "the list names no video"
        raise UserError(problem, place=str(path), remedy=LAYOUT)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"the list names a video twice: {twice[0]!r}", place=str(path))
    return names


def _picture(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # brought to 8 bits, it would be white
                raise UnreadableError(f"{path.name} has more than 8 bits (mode {image.mode})")
            return np.asarray(image.convert("RGB"))
    except UNREADABLE as error:
        raise UnreadableError(f"{path.name} cannot be read: {_said(error)}") from None


def _mask(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            if image.mode not in {"P", "L", "1"}:
                raise UnreadableError(
                    f"{path.name} has no numbered pixels (mode {image.mode}): masks are PNG files "
                    "with a palette, or of grey levels 0, 1, 2 ..."
                )
            return np.asarray(image, dtype=np.uint8)
    except UNREADABLE as error:
        raise UnreadableError(f"{path.name} cannot be read: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Return the error's first line, without the path that Pillow adds."""
    return str(error).split("'")[0].strip() or type(error).__name__
