"""The list of clips: a CSV with one row per clip, checked as a whole before anything is fetched."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from pipeline.configuration import folding
from pipeline.data.manifest.rows import COLUMNS as COLUMNS
from pipeline.data.manifest.rows import SOURCES, Unusable, check
from pipeline.data.manifest.rows import SPLITS as SPLITS
from pipeline.data.manifest.rows import Row as Row
from pipeline.data.manifest.rows import chunk_of as chunk_of
from pipeline.data.manifest.rows import hash_of as hash_of
from pipeline.errors import UserError

SHOWN = 15  # errors that are printed; the rest are counted


def read(path: Path | str, folder: Path | str | None = None) -> list[Row]:
    """Read a list of clips; relative paths in it start from `folder` (default: the list's own).

    Raises:
        UserError: with all errors of the file together, by line.
    """
    return list(scan(path, folder))


def scan(path: Path | str, folder: Path | str | None = None) -> Iterator[Row]:
    """Yield the rows as `read` does, one at a time; the errors are raised after the last one."""
    return (row for _, row in scan_hashed(path, folder))


def scan_hashed(path: Path | str, folder: Path | str | None = None) -> Iterator[tuple[int, Row]]:
    """Yield `hash_of` each row's id, and the row, as `scan` does.

    A list of 10 million rows fits in memory as 64 bits a row, and no better: so it is read as a
    stream, and an id that occurs twice, or with other capitals (`folding`), is noticed by a hash.
    Only then is the list read once more, to say where.
    """
    path = Path(path)
    errors = _Errors()
    hashes = array("Q")
    try:
        for line, checked in _checked(path, str(path.parent if folder is None else folder)):
            if isinstance(checked, Row):
                number = hash_of(checked.id)
                hashes.append(_folded_hash(checked.id, number))
                yield number, checked
            else:
                errors.add(line, checked.problems)
                if checked.id:
                    hashes.append(_folded_hash(checked.id, hash_of(checked.id)))
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    for line, problem in _duplicates(path, hashes):
        errors.add(line, [problem])
    if not hashes and not errors.count:
        errors.count, errors.first = 1, [(0, "the list holds no clip")]
    if errors.count:
        raise errors.refusal(path)


def urls(path: Path, ids: Container[str]) -> dict[str, str]:
    """Return the addresses of some rows of a list that `read` accepts, by id.

    Raises:
        UserError: there is no such list, or it has no such columns.
    """
    addresses = {}
    try:
        records = _records(path)
        names = [name.strip() for name in next(records, (1, []))[1]]
        place, url = names.index("id"), names.index("url")
        for _, fields in records:
            if len(fields) == len(names) and (name := fields[place].strip()) in ids:
                addresses[name] = fields[url].strip()
    except (ValueError, _NotCsv):  # UnicodeDecodeError is a ValueError
        raise UserError("it is no list of addresses any more", place=str(path)) from None
    return addresses


def from_mappings(rows: Iterable[Mapping[str, str]], place: str) -> Iterator[Row]:
    """Turn rows that a program made (column -> text) into checked `Row`s.

    Raises:
        UserError: for a row that `read` would refuse.
    """
    seen: dict[str, str] = {}
    for number, values in enumerate(rows, 1):
        given = {name: value.strip() for name, value in values.items()}
        checked = check([given.pop(name, "") for name in COLUMNS], given, "")
        key = folding.folded(checked.id)
        if key in seen:
            checked = Unusable([_said_twice(checked.id, seen[key], "above")])
        if not isinstance(checked, Row):
            errors = _Errors()
            errors.add(number, checked.problems)
            raise errors.refusal(place, "row")
        seen[key] = checked.id
        yield checked


def to_csv(rows: Iterable[Row], extra: Sequence[str]) -> str:
    """Return a list that `read` gives back; `extra` names its further columns."""
    line = line_writer(extra)
    return header_line(extra) + "".join(map(line, rows))


def header_line(extra: Sequence[str]) -> str:
    """Return the first line of a list with these further columns."""
    return _csv_line((*COLUMNS, *extra))


def line_writer(extra: Sequence[str]) -> Callable[[Row], str]:
    """Return the function from a row to its line in a list with these further columns."""
    extra = tuple(extra)

    def line(row: Row) -> str:
        return _csv_line((*row[:-1], *(row.extra.get(name, "") for name in extra)))

    return line


class _Echo:
    """A file that hands back what is written to it, and `csv` passes that on."""

    @staticmethod
    def write(text: str) -> str:
        return text


# None is written as an empty field, a float by `repr`, which is exact.
_csv_line: Callable[[Iterable[object]], str] = csv.writer(_Echo(), lineterminator="\n").writerow


class _Errors:
    """The first few errors of a list by line, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, line: int, problems: Sequence[str]) -> None:
        if not problems:
            return
        self.count += len(problems)
        if len(self.first) < SHOWN or line < self.first[-1][0]:
            self.first += [(line, problem) for problem in problems]
            self.first.sort(key=lambda error: error[0])
            del self.first[SHOWN:]

    def refusal(self, place: Path | str, unit: str = "line") -> UserError:
        shown = [f"{unit} {line}: {problem}" if line else problem for line, problem in self.first]
        plural = "s" if self.count > 1 else ""
        lines = [f"{self.count:,} error{plural} in the list of videos:", *shown]
        if self.count > len(shown):
            lines.append(f"and {self.count - len(shown):,} more")
        return UserError(
            "\n  ".join(lines),
            place=str(place),
            remedy="put these lines right and start again; nothing was fetched yet",
        )


class _NotCsv(Exception):  # noqa: N818 - an error of the list, found with its others
    """The list cannot be read from this line on: (line, problem)."""


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a CSV file, those that hold something, with the line they begin on.

    Raises:
        _NotCsv, UnicodeDecodeError, and UserError where there is no such file.
    """
    try:
        handle = path.open(encoding="utf-8-sig", newline="")  # without the mark of spreadsheets
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
    with handle:
        reader = csv.reader(handle, strict=True)
        line = 1
        try:
            for fields in reader:
                if fields and fields != [""]:
                    yield line, fields
                line = reader.line_num + 1  # a quoted field may span several lines
        except csv.Error as error:
            raise _NotCsv(line, f"not CSV: {error} (is a quotation mark left open?)") from None


def _checked(path: Path, folder: str) -> Iterator[tuple[int, Row | Unusable]]:
    """Yield each line's number with its row, or with what is wrong with it."""
    # Path's own joining takes five times as long, for ten million rows.
    prefix = f"{folder}/" if folder else ""
    try:
        records = _records(path)
        line, header = next(records, (1, []))
        names = [name.strip() for name in header]
        if names and (problems := _header_problems(names)):
            yield line, Unusable(problems)
            return
        columns = _Columns(names)
        for line, fields in records:
            if len(fields) != len(names):
                has = f"has {len(fields)} fields where the header has {len(names)}"
                yield line, Unusable([has])
            else:
                yield line, check(*columns.split(fields), prefix)
    except _NotCsv as error:
        line, problem = error.args
        yield line, Unusable([problem])


class _Columns:
    """Where in a record of a list the known columns stand, and the others."""

    def __init__(self, names: list[str]) -> None:
        # A column that is not there is read from an empty field that is put after the last one.
        self.known = itemgetter(
            *(names.index(name) if name in names else len(names) for name in COLUMNS)
        )
        self.extra = [(n, index) for index, n in enumerate(names) if n not in COLUMNS]

    def split(self, fields: list[str]) -> tuple[Sequence[str], dict[str, str]]:
        """Return the known columns, and the others by name."""
        fields = [*map(str.strip, fields), ""]
        extra = {name: fields[index] for name, index in self.extra}
        return self.known(fields), extra


def _folded_hash(clip_id: str, number: int) -> int:
    """Return a hash of an id that other capitals do not change; `number` is `hash_of` it."""
    folded = folding.folded(clip_id)
    return number if folded == clip_id else hash_of(folded)


def _duplicates(path: Path, hashes: array[int]) -> Iterator[tuple[int, str]]:
    """Yield the line of every id that an earlier line has, and says so; `hashes` are those of all
    ids, folded."""
    ordered = np.sort(np.frombuffer(hashes, dtype=np.uint64))
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not twice:
        return
    firsts: dict[str, tuple[int, str]] = {}
    for line, checked in _checked(path, ""):
        if checked.id and hash_of(folded := folding.folded(checked.id)) in twice:
            first, name = firsts.setdefault(folded, (line, checked.id))
            if first != line:
                yield line, _said_twice(checked.id, name, f"on line {first}")


def _said_twice(clip_id: str, first: str, where: str) -> str:
    """Say of an id that it, or one that differs from it in capitals alone, is there already."""
    if clip_id == first:
        return f"id {clip_id!r} is already {where}"
    return f"id {clip_id!r} and {first!r} {where} {folding.REASON}"


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


def _not_utf8(path: Path) -> UserError:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):  # noqa: B007 - counts to the bad line
            try:
                line.decode()
            except UnicodeDecodeError:
                break
    return UserError(
        "the list of videos is not UTF-8 text",
        place=f"{path}, line {number}",
        remedy="save it as 'CSV UTF-8'",
    )
