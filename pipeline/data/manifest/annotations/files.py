"""One clip of a data set's annotations, and the errors that are found in them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Self

from pipeline.errors import UserError

MULTI = ";"  # between the labels of a clip that has several
SHOWN = 15  # errors that are printed; the rest are counted
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A clip as the annotations have it; what they do not say is empty."""

    id: str
    name: str  # of its file, as the data set calls it, with or without an ending
    split: str  # train, val or test
    label: str = ""  # several are joined with MULTI
    youtube_id: str = ""
    start: float | None = None  # seconds in the YouTube video
    end: float | None = None
    group: str = ""  # clips of one group are cut from one video, or show one scene
    extra: Mapping[str, str] = field(default_factory=dict)


class Problems:
    """Collects what is wrong with annotation files; raises it all together in the end.

    >>> with Problems() as problems:
    ...     problems.add(path, 7, "has no label")
    """

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self.count:
            return
        more = [f"and {self.count - SHOWN:,} more"] if self.count > SHOWN else []
        plural = "s" if self.count > 1 else ""
        raise UserError(
            "\n  ".join([f"{self.count:,} error{plural} in the annotations:", *self.first, *more]),
            remedy="docs/sources.md says which files are read, and in which form",
        )

    def add(self, path: Path, place: int | str, problem: str) -> None:
        """Add a problem at a line (a number), or at another kind of place (text)."""
        self.count += 1
        if len(self.first) < SHOWN:
            where = f"line {place}" if isinstance(place, int) else place
            self.first.append(f"{path.name}, {where}: {problem}")


def find(folder: Path, *patterns: str) -> list[Path]:
    """Return the files at or below a folder that match the first pattern that any file matches.

    The latest comes last, where names differ by a version. In place of the folder, the one file
    that is needed may be given.

    Raises:
        UserError: there is none.
    """
    if folder.is_file():
        if any(fnmatch(folder.name, pattern) for pattern in patterns):
            return [folder]
        raise UserError(
            f"this is a file; the folder that has {' or '.join(patterns)} is needed",
            place=str(folder),
            remedy="docs/sources.md says which files each data set has",
        )
    if not folder.is_dir():
        raise UserError("there is no such folder of annotations", place=str(folder))
    for pattern in patterns:
        if paths := sorted(path for path in folder.rglob(pattern) if path.is_file()):
            return paths
    raise UserError(
        f"there is no {' or '.join(patterns)} in the folder of annotations",
        place=str(folder),
        remedy="docs/sources.md says which files each data set has",
    )


def find_one(folder: Path, *patterns: str) -> Path | None:
    """Return the latest file that `find` finds; None where there is none."""
    try:
        return find(folder, *patterns)[-1]
    except UserError:
        return None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that are not empty, without spaces around them."""
    for number, line in enumerate(text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def matches(
    path: Path, pattern: str, form: str, problems: Problems
) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield number and match of the lines; those that `pattern` does not match are problems.

    `form` says how a line is to look.
    """
    for number, line in lines(path):
        if match := re.fullmatch(pattern, line):
            yield number, match
        else:
            problems.add(path, number, f"{line[:60]!r} is not {form}")


def table(
    path: Path, columns: Iterable[str], problems: Problems
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number and fields, by column, of the rows of a CSV that needs to have these columns."""
    rows = csv.reader(io.StringIO(text(path)))
    names = [name.strip() for name in next(rows, [])]
    if missing := [name for name in columns if name not in names]:
        problems.add(path, 1, f"the header has no {', '.join(missing)}: {','.join(names)[:80]}")
        return
    for fields in filter(None, rows):
        if len(fields) == len(names):
            yield rows.line_num, dict(zip(names, map(str.strip, fields), strict=True))
        else:
            has = f"has {len(fields)} fields where the header has {len(names)}"
            problems.add(path, rows.line_num, has)


def text(path: Path) -> str:
    """Return a file's text.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("the annotations are not UTF-8 text", place=str(path)) from None
    except OSError as error:
        raise UserError(
            f"the annotations cannot be read: {error.strerror}", place=str(path)
        ) from None


def from_json(path: Path, kind: type[list[Any]] | type[dict[Any, Any]]) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: it is no JSON (with the line), or not of this kind.
    """
    try:
        value = json.loads(text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"the annotations are not JSON: {error.msg}", place=f"{path}, line {error.lineno}"
        ) from None
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "a mapping"
        raise UserError(f"the annotations are not {expected}", place=str(path))
    return value


def id_of(name: str) -> str:
    """Return an id for a clip whose file is called so: equal names, equal ids, and only those."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".")[:140]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
