"""One row of the list of clips: what it may hold, and all that is wrong with a useless one."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.data.manifest import members, redaction

SOURCES = ("path", "url", "youtube_id", "synthetic")
COLUMNS = ("id", *SOURCES, "start", "end", "label", "split", "sha256")
SPLITS = ("train", "val", "test")

ID_RULE = "an id is a file name: 1 to 160 of A-Z a-z 0-9 _ - and ., the first not a ."
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,159}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")


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


def hash_of(clip_id: str) -> int:
    """Return 64 bits of a clip's id: the same on every machine, in every run."""
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")


def chunk_of(clip_id: str, chunks: int) -> int:
    """Return the chunk of a clip, 0 to `chunks` - 1."""
    return hash_of(clip_id) % chunks


class Unusable(NamedTuple):
    """What is wrong with a line of the list."""

    problems: Sequence[str]
    id: str = ""  # where the line has one that can be used, whatever else is wrong with it


def check(known: Sequence[str], extra: Mapping[str, str], prefix: str) -> Row | Unusable:
    """Return the row of these texts, in the order of COLUMNS, or everything wrong with them."""
    clip_id, path, url, youtube_id, synthetic, start, end, label, split, sha256 = known
    problems: list[str] = []
    if not ID.fullmatch(clip_id):
        rule = f"id {clip_id[:60]!r} cannot be used: {ID_RULE}"
        problems.append(rule if clip_id else "has no id")
        clip_id = ""
    problems += _source_problems(path, url, youtube_id, synthetic)
    first = _seconds("start", start, problems) if start else None
    last = _seconds("end", end, problems) if end else None
    if last is not None and (first or 0.0) >= last:
        problems.append(f"start {first or 0.0:g} is not before end {last:g}")
    if split not in SPLITS:
        if split:
            problems.append(f"split {split[:30]!r} is none of {', '.join(SPLITS)}")
        split = "train"
    if sha256:
        sha256 = sha256.lower()
        if not _SHA256.fullmatch(sha256):
            problems.append(f"sha256 {sha256[:20]!r}... is not 64 hexadecimal digits")
    if problems:
        return Unusable(problems, clip_id)
    if path:
        path = os.path.normpath(path if path.startswith("/") else prefix + path)
    if "\r" in label or any("\r" in value for value in extra.values()):  # of old machines' lines
        label = label.replace("\r\n", "\n").replace("\r", "\n")
        extra = {name: re.sub("\r\n?", "\n", value) for name, value in extra.items()}
    if "://" in label or any("://" in value for value in extra.values()):
        label = redaction.redact_text(label)
        extra = {name: redaction.redact_text(value) for name, value in extra.items()}
    return Row(clip_id, path, url, youtube_id, synthetic, first, last, label, split, sha256, extra)


def _source_problems(path: str, url: str, youtube_id: str, synthetic: str) -> Sequence[str]:
    values = (path, url, youtube_id, synthetic)
    count = len(values) - values.count("")
    if count != 1:
        given = ", ".join(name for name, value in zip(SOURCES, values, strict=True) if value)
        if count:
            return [f"has {count} sources ({given}) where one is needed"]
        return [f"has no source: fill one of {', '.join(SOURCES)}"]
    if url and (fault := members.fault(url, is_address=True)):
        return [f"url {redaction.redact_any(url)[:60]!r} {fault}"]
    if path and (fault := _path_fault(path)):
        return [f"path {redaction.redact_text(path)[:60]!r} {fault}"]
    if youtube_id and not _YOUTUBE_ID.fullmatch(youtube_id):
        shown = redaction.redact_text(youtube_id)[:30]
        return [f"youtube_id {shown!r} is not 11 of A-Z a-z 0-9 _ and -"]
    return ()


def _path_fault(path: str) -> str:
    if "\0" in path or "\n" in path:
        return "holds a character that no path can have"
    if "://" in path.partition(members.MARK)[0]:
        return "is an address: it belongs into the column url"
    return members.fault(path, is_address=False)


def _seconds(name: str, text: str, problems: list[str]) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value < math.inf:
        return value
    problems.append(f"{name} {text[:30]!r} is not a number of seconds")
    return None
