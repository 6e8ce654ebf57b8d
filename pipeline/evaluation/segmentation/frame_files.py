"""Which files of a video are its frames and masks, which belong together, and in which order.

Files are told by their suffix in either case; hidden ones are passed over. A mask belongs to the
picture of its name or, where the two count with zeros in front or not, of its numbers. Names of one
length are in the order of letters, of several lengths in the order of their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png")
MASKS = (".png",)
NUMBER = re.compile("([0-9]+)")
DECIMAL = (".", ",")  # between two numbers, they may be one

Numbers = tuple[int, ...]
Pair = tuple[Path, Path]


class UnclearError(Exception):
    """Frames of which it cannot be told which is which."""


def pairs(pictures: Path, masks: Path) -> tuple[list[Pair], str]:
    """Return each picture that has a mask, with it, in order; and why there is none.

    Raises:
        UnclearError: where two files are of one frame, or their order cannot be told.
    """
    shown, drawn = _files(pictures, PICTURES), _files(masks, MASKS)
    picture_of = {name: name for name in drawn if name in shown}
    if len(picture_of) < len(drawn):
        by_number = _by_number(shown, drawn)
        if len(by_number) > len(picture_of):
            picture_of = by_number
    _refuse_shifted(shown, drawn)
    mask_of = {picture: mask for mask, picture in picture_of.items()}
    ordered = [(shown[name], drawn[mask_of[name]]) for name in in_order(mask_of)]
    if ordered:
        return ordered, ""
    for folder, files, kinds, what in (
        (pictures, shown, PICTURES, "pictures"),
        (masks, drawn, MASKS, "masks"),
    ):
        if not files:
            return [], _nothing(folder, kinds, what)
    some = f"pictures such as {_first(shown)}, masks such as {_first(drawn)}"
    return [], f"no picture has a mask of its name: {some}"


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of frames in the order of time.

    Raises:
        UnclearError: for names of several lengths that do not differ in their numbers alone.
    """
    ordered = sorted(names)
    if len({len(name) for name in ordered}) < 2:
        return ordered
    numbers = _numbers(ordered)
    if numbers is None:
        lengths = sorted(ordered, key=len)
        some = f"{lengths[0]!r}, {lengths[-1]!r}"
        raise UnclearError(
            f"the order of its frames cannot be told: names of several lengths, such as {some}, "
            "that do not differ in whole numbers alone"
        )
    return [numbers[key] for key in sorted(numbers)]


def _numbers(names: Sequence[str]) -> dict[Numbers, str] | None:
    """Return names by their numbers; None where they differ in anything else, too.

    Raises:
        UnclearError: where two have the same numbers.
    """
    by_number: dict[Numbers, str] = {}
    texts = set()
    for name in names:
        parts = NUMBER.split(name)
        texts.add(tuple(parts[::2]))
        key = tuple(map(int, parts[1::2]))
        if key and key in by_number:
            raise UnclearError(f"two files are of one frame: {by_number[key]!r} and {name!r}")
        by_number[key] = name
    same = len(texts) == 1 and not any(text in DECIMAL for text in next(iter(texts)))
    return by_number if same and () not in by_number else None


def _by_number(shown: Mapping[str, Path], drawn: Mapping[str, Path]) -> dict[str, str]:
    """Return the picture of each mask by their numbers; none where names have others."""
    pictures, masks = _numbers(sorted(shown)), _numbers(sorted(drawn))
    if pictures is None or masks is None:
        return {}
    return {mask: pictures[key] for key, mask in masks.items() if key in pictures}


def _refuse_shifted(shown: Mapping[str, Path], drawn: Mapping[str, Path]) -> None:
    """Refuse pictures and masks that are as many and are counted from different numbers."""
    if len(shown) != len(drawn) or shown.keys() == drawn.keys():
        return
    ranges = []
    for names in (shown, drawn):
        numbers = sorted(_numbers(sorted(names)) or ())
        if not numbers or any(len(key) != 1 for key in numbers):
            return
        first, last = numbers[0][0], numbers[-1][0]
        if last - first + 1 != len(numbers):
            return
        ranges.append((first, last))
    if ranges[0] != ranges[1]:
        raise UnclearError(
            f"its pictures are numbered {ranges[0][0]} to {ranges[0][1]}, its masks "
            f"{ranges[1][0]} to {ranges[1][1]}: which belongs to which cannot be told"
        )


def _files(folder: Path, kinds: Sequence[str]) -> dict[str, Path]:
    """Return a folder's files of these kinds, by name without suffix."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in kinds or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            raise UnclearError(f"two files are of one frame: {files[path.stem].name}, {path.name}")
        files[path.stem] = path
    return files


def _nothing(folder: Path, kinds: Sequence[str], what: str) -> str:
    place = f"{folder.parent.name}/{folder.name}"
    if not folder.is_dir():
        return f"there is no folder {place} of {what}"
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    held = f"{len(others)} other files, such as {others[0]}" if others else "nothing"
    return f"no {what} ({', '.join(kinds)}) in {place}, which holds {held}"


def _first(files: Mapping[str, Path]) -> str:
    return next(iter(files.values())).name
