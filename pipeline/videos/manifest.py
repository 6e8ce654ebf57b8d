"""The list of clips: a CSV with one row per clip, checked as a whole before anything is fetched."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError

SOURCES = ("path", "url", "youtube_id", "synthetic")
COLUMNS = ("id", *SOURCES, "start", "end", "label", "split", "sha256")
SPLITS = ("train", "val", "test")
SHOWN = 15  # errors that are printed; the rest are counted

ID_RULE = "an id is a file name: 1 to 160 of A-Z a-z 0-9 _ - and ., the first not a ."
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,159}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Row(NamedTuple):
    """One clip of the list, with exactly one of the four sources; the others are empty."""

    id: str
    path: str  # of a local file: relative to the working directory, or absolute
    url: str
    youtube_id: str
    synthetic: str
    start: float | None  # seconds; None: from the beginning
    end: float | None  # seconds; None: to the end
    label: str
    split: str  # train, val or test
    sha256: str  # of the whole source file, in lower case; empty: not promised
    extra: Mapping[str, str]  # the columns that this project does not know

    @property
    def source(self) -> tuple[str, str]:
        """The kind of source and its value: `("url", "https://...")`."""
        kind = next(name for name in SOURCES if getattr(self, name))
        return kind, getattr(self, kind)

    def column(self, name: str) -> str:
        """Return the text of any column, known or not; empty where there is none."""
        value = getattr(self, name) if name in COLUMNS else self.extra.get(name, "")
        return "" if value is None else str(value)


def chunk_of(clip_id: str, chunks: int) -> int:
    """Return the chunk of a clip, 0 to `chunks` - 1: the same on every machine, in every run."""
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big") % chunks


def read(path: Path | str, folder: Path | str | None = None) -> list[Row]:
    """Read a list of clips; relative paths in it start from `folder` (default: the list's own).

    Raises:
        UserError: with all errors of the file together, by line.
    """
    return list(scan(path, folder))


def scan(path: Path | str, folder: Path | str | None = None) -> Iterator[Row]:
    """Yield the rows as `read` does, one at a time; the errors are raised after the last one."""
    path = Path(path)
    text = _text(path)
    checker = _Checker(str(path.parent if folder is None else folder))
    errors: list[str] = []
    count = 0
    for line, outcome in checker.rows(text):
        if isinstance(outcome, Row):
            yield outcome
            continue
        count += len(outcome)
        errors += [f"line {line}: {problem}" for problem in outcome][: SHOWN - len(errors)]
    if not count and not checker.first_lines:
        count, errors = 1, ["the list holds no clip"]
    if count:
        raise _refusal(path, errors, count)


def from_mappings(rows: Iterable[Mapping[str, str]], place: str) -> Iterator[Row]:
    """Turn rows that a program made (column -> text) into checked `Row`s.

    Raises:
        UserError: for a row that `read` would refuse.
    """
    checker = _Checker("")
    for number, values in enumerate(rows, 1):
        outcome = checker.row(number, values)
        if not isinstance(outcome, Row):
            raise _refusal(place, [f"row {number}: {problem}" for problem in outcome], len(outcome))
        yield outcome


def to_csv(rows: Sequence[Row], extra: Sequence[str]) -> str:
    """Return a list that `read` gives back; `extra` names its further columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = (*COLUMNS, *extra)
    writer.writerow(names)
    for row in rows:
        writer.writerow([row.column(name) for name in names])
    return buffer.getvalue()


class _Checker:
    """Checks rows one by one; remembers the ids that it has seen."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.first_lines: dict[str, int] = {}  # id -> the line that has it first

    def rows(self, text: str) -> Iterator[tuple[int, Row | list[str]]]:
        """Yield each line's number with its row, or with what is wrong with it."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        names: list[str] | None = None
        line = 1
        try:
            for fields in reader:
                first, line = line, reader.line_num + 1  # a quoted field may span several lines
                if not fields or fields == [""]:
                    continue
                if names is None:
                    names = [name.strip() for name in fields]
                    if problems := _header_problems(names):
                        self.first_lines[""] = first  # so that the list does not count as empty
                        yield first, problems
                        return
                elif len(fields) != len(names):
                    yield first, [f"has {len(fields)} fields where the header has {len(names)}"]
                else:
                    yield first, self.row(first, dict(zip(names, fields, strict=True)))
        except csv.Error as error:
            yield line, [f"not CSV: {error} (is a quotation mark left open?)"]

    def row(self, line: int, values: Mapping[str, str]) -> Row | list[str]:
        """Return the checked row, or everything that is wrong with it."""
        given = {name: value.strip() for name, value in values.items()}
        known = [given.pop(name, "") for name in COLUMNS]
        clip_id, path, url, youtube_id, synthetic, start, end, label, split, sha256 = known
        problems = [
            *self._id_problems(clip_id, line),
            *_source_problems(path, url, youtube_id, synthetic),
        ]
        first, last = _seconds("start", start, problems), _seconds("end", end, problems)
        if last is not None and (first or 0.0) >= last:
            problems.append(f"start {first or 0.0:g} is not before end {last:g}")
        if split and split not in SPLITS:
            problems.append(f"split {split!r} is none of {', '.join(SPLITS)}")
        sha256 = sha256.lower()
        if sha256 and not _SHA256.fullmatch(sha256):
            problems.append(f"sha256 {sha256[:20]!r}... is not 64 hexadecimal digits")
        if problems:
            return problems
        if path:
            path = os.path.normpath(os.path.join(self.folder, path))  # noqa: PTH118 - 5 x faster
        split = split or "train"
        return Row(
            clip_id, path, url, youtube_id, synthetic, first, last, label, split, sha256, given
        )

    def _id_problems(self, clip_id: str, line: int) -> Iterator[str]:
        if not _ID.fullmatch(clip_id):
            yield f"id {clip_id[:60]!r} cannot be used: {ID_RULE}" if clip_id else "has no id"
            return
        first = self.first_lines.setdefault(clip_id, line)
        if first != line:
            yield f"id {clip_id!r} is already on line {first}"


def _header_problems(names: list[str]) -> list[str]:
    if len(names) == 1:  # what a spreadsheet writes in countries with a decimal comma
        for mark, called in ((";", "semicolons"), ("\t", "tabs")):
            if mark in names[0]:
                return [f"the columns are separated by {called}; commas are needed"]
    problems = []
    if "id" not in names:
        problems.append(f"there is no column 'id'; the columns are: {', '.join(names)[:200]}")
    if not set(SOURCES) & set(names):
        problems.append(f"there is no source: one of the columns {', '.join(SOURCES)} is needed")
    if "" in names:
        problems.append(f"column {names.index('') + 1} has no name")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    problems += [f"the column {name!r} is there twice" for name in twice]
    return problems


def _source_problems(path: str, url: str, youtube_id: str, synthetic: str) -> Iterator[str]:
    values = (path, url, youtube_id, synthetic)
    given = [name for name, value in zip(SOURCES, values, strict=True) if value]
    if not given:
        yield f"has no source: fill one of {', '.join(SOURCES)}"
    elif len(given) > 1:
        yield f"has {len(given)} sources ({', '.join(given)}) where one is needed"
    elif url and not url.lower().startswith(("http://", "https://")):
        yield f"url {url[:60]!r} does not begin with http:// or https://"
    elif "\0" in path or "\n" in path:
        yield "path holds a character that no path can have"


def _seconds(name: str, text: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0:
        return value
    problems.append(f"{name} {text[:30]!r} is not a number of seconds")
    return None


def _text(path: Path) -> str:
    """Return the text of the list, without the mark that spreadsheets put before it."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            "there is no such list of videos",
            place=str(path),
            remedy="data.manifest names a CSV, relative to the project's folder",
        ) from None
    except OSError as error:
        raise UserError(
            f"the list of videos cannot be read: {error.strerror}", place=str(path)
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            "the list of videos is not UTF-8 text",
            place=f"{path}, line {line}",
            remedy="save it as 'CSV UTF-8'",
        ) from None


def _refusal(place: Path | str, errors: Sequence[str], count: int) -> UserError:
    lines = [f"{count:,} error{'s' if count > 1 else ''} in the list of videos:", *errors[:SHOWN]]
    if count > len(lines) - 1:
        lines.append(f"and {count - len(lines) + 1:,} more")
    return UserError(
        "\n  ".join(lines),
        place=str(place),
        remedy="put these lines right and start again; nothing was fetched yet",
    )
