"""Lists of `path label`, as VideoMAE, mmaction2 and those who followed them write them.

`train.csv`, `val.csv`, `test.csv` (or .txt), or one such file: a path and a class number on each
line, between them a space, a tab, a comma or a semicolon. A path may hold spaces, and stand in
quotation marks; the label is what comes last; -1 is none. `path 0 -1`, as VideoMAE v2 pretrains on,
is a whole video without a label. A header is read where it names a path and a label; then a label
may be text.

Further numbers (`path start count`, `path frames label`, `path label label`) look alike, so which
of them is the label cannot be known: such lists are refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pipeline.data.manifest.annotations.files import SPLITS, Clip, Problems, find_one, id_of, lines
from pipeline.data.manifest.folders import SUFFIXES
from pipeline.errors import UserError

PATHS = {"path", "paths", "video", "videos", "file", "filename", "file_name", "filepath",
         "file_path", "video_path", "video_name", "video_file", "name", "clip"}  # fmt: skip
LABELS = {"label", "labels", "class", "target", "category", "label_id", "class_id", "action"}
PARTS = {"start", "end", "begin", "stop", "offset", "start_frame", "end_frame", "start_time",
         "end_time", "time_start", "time_end", "count"}  # fmt: skip
_QUOTED = re.compile(r"(?P<q>[\"'])(?P<path>.+)(?P=q)(?P<numbers>(?:[\s,;]+-?\d+)*)")
_PLAIN = re.compile(r"(?P<path>.*?[^\s,;])(?P<numbers>(?:\s*[,;]\s*-?\d+|\s+-?\d+)*)")


def read(folder: Path, fold: int) -> Iterator[Clip]:  # noqa: ARG001 - there is one
    """Yield the clips of the lists that there are; `folder` may be one list, too."""
    lists: dict[str, Path] = {}
    if folder.is_file():
        named = re.search("train|val|test", folder.stem.lower())
        lists[named[0] if named else "train"] = folder
    else:
        for split in ("train", "val", "test"):
            if path := find_one(folder, f"{split}.csv", f"{split}.txt", f"*{split}*.csv"):
                lists[split] = path
    if not lists:
        raise UserError("there is no train.csv, val.csv or test.csv", place=str(folder))
    with Problems() as problems:
        for split, path in lists.items():
            numbered = list(lines(path))
            if numbered and (header := header_of(numbered[0][1])):
                yield from _with_header(path, split, header, problems)
            else:
                yield from _without_header(path, split, numbered, problems)


def parsed(line: str) -> tuple[str, list[str]] | None:
    """Return the path and the numbers after it; None where there is no number, or more."""
    if "\t" in line:
        path, *numbers = (field.strip() for field in line.split("\t"))
        path = path[1:-1] if len(path) > 2 and path[0] == path[-1] == '"' else path
        is_good = path and numbers and all(re.fullmatch(r"-?\d+", number) for number in numbers)
        return (path, numbers) if is_good else None
    match = _QUOTED.fullmatch(line) or _PLAIN.fullmatch(line)
    if match is None or not match["numbers"]:
        return None
    path = match["path"]
    if match.re is _QUOTED:
        return path.replace('""', '"'), re.findall(r"-?\d+", match["numbers"])
    # What stands between the end of a video's name and the numbers is no part of its path, nor is
    # a broken number.
    suffix = re.search(rf"({'|'.join(map(re.escape, SUFFIXES))})[\s,;\"']", path, re.IGNORECASE)
    broken = re.search(r"[\s,;]-?\d*\.\d+$", path)
    if (suffix or broken) and PurePosixPath(path).suffix.lower() not in SUFFIXES:
        return None
    return path, re.findall(r"-?\d+", match["numbers"])


def header_of(line: str) -> list[str]:
    """Return the names of the columns, where the line names a path; else nothing."""
    names = [name.strip().strip("\"'").lower() for name in re.split(_separator(line), line)]
    return names if PATHS & set(names) and len(names) > 1 else []


def _separator(line: str) -> str:
    return next((mark for mark in "\t;," if mark in line), r"\s+")


def _without_header(
    path: Path, split: str, numbered: Sequence[tuple[int, str]], problems: Problems
) -> Iterator[Clip]:
    first = next((len(fields[1]) for _, line in numbered if (fields := parsed(line))), 1)
    unclear: list[int] = []  # lines whose label cannot be told
    for number, line in numbered:
        fields = parsed(line)
        if fields is None:
            problems.add(path, number, f"{line[:60]!r} is not `path label`")
            continue
        name, numbers = fields
        if len(numbers) != first:
            has = f"{line[:60]!r} has another number of columns than the lines before"
            problems.add(path, number, has)
        elif len(numbers) > 1 and numbers != ["0", "-1"]:
            unclear.append(number)
        elif int(numbers[-1]) < -1:
            problems.add(path, number, f"label {numbers[-1]} is neither a class nor -1, none")
        else:
            label = "" if numbers[-1] == "-1" else numbers[-1]
            yield _clip(name, split, label)
    if unclear:
        line = dict(numbered)[unclear[0]]
        problems.add(path, unclear[0], _unclear(line, first, len(unclear) - 1))


def _unclear(line: str, numbers: int, others: int) -> str:
    more = f" (so have {others:,} further line{'s' * (others > 1)})" if others else ""
    problem = f"{line[:60]!r} has {numbers} numbers after the path{more}"
    if PurePosixPath((parsed(line) or ("", []))[0]).suffix.lower() not in SUFFIXES:
        return f"{problem}: folders of frames are not read, videos alone"
    return (
        f"{problem}: `path start count` and `path frames label` look alike; keep path and label "
        "alone, or give the list a header, such as path,frames,label"
    )


def _with_header(path: Path, split: str, header: list[str], problems: Problems) -> Iterator[Clip]:
    (number, first), *rest = lines(path)
    labels = [name for name in header if name in LABELS]
    parts = [name for name in header if name in PARTS]
    if parts or len(labels) != 1 or len(set(header)) < len(header):
        wrong = f"has {parts[0]!r}: a part of a video is" if parts else "has no one label: it is"
        problems.add(path, number, f"the header {wrong} written as id,path,start,end,label")
        return
    where = next(index for index, name in enumerate(header) if name in PATHS)
    mark = _separator(first)
    for number, line in rest:
        if mark == r"\s+":
            fields = line.split()
        else:
            fields = [field.strip() for field in next(csv.reader([line], delimiter=mark))]
        if len(fields) != len(header):
            has = f"has {len(fields)} fields where the header has {len(header)}"
            problems.add(path, number, has)
            continue
        row = dict(zip(header, fields, strict=True))
        given = SPLITS.get(row.get("split", "").lower() or split)
        label = row[labels[0]]
        if given is None:
            problems.add(path, number, f"split {row['split'][:30]!r} is none of train, val, test")
        elif not fields[where]:
            problems.add(path, number, "has no path")
        else:
            yield _clip(fields[where], given, "" if label == "-1" else label)


def _clip(name: str, split: str, label: str) -> Clip:
    clip_id = id_of(str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name)
    return Clip(clip_id, name, split, label, group=name)
