"""Whether the files of this machine that a chunk was made from are still those that were read.

The download stage notes of each local file that its list names (a video, or a part of an archive)
its size, its time and the hash of its content. Whenever the workflow is planned, `state` looks
at them again: by size and time, and where these differ by the hash. A file that was only touched is
the same; one that is gone is not missed, since what was made of it is here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.data.manifest import members
from pipeline.runtime.files import read_json, sha256_file, write_json

REPLACED = "replaced"  # a `state` that is not that of a first download begins so
Seen = tuple[
    str, str
]  # "SIZE:TIME" ("" where there was no file) and SHA-256 ("" if it was not read)


def state(note: Path) -> str:
    """Return a text that differs from that of the chunk's last download if a file does.

    `note` is what `write_note` wrote; without one the text is empty. Files that were only touched
    are noted anew, so that they are hashed once.
    """
    try:
        body = read_json(note)
    except (OSError, ValueError):
        return ""
    before: str = body["state"]
    changed = _changed(note, body)
    if not changed:
        return before
    digest = hashlib.sha256(json.dumps([before, changed], sort_keys=True).encode()).hexdigest()
    return f"{REPLACED} {digest[:32]}"


def replaced(note: Path) -> list[str]:
    """Return the paths of the files that are no longer those that the chunk was made from."""
    try:
        return sorted(_changed(note, read_json(note)))
    except (OSError, ValueError):
        return []


def _changed(note: Path, body: dict[str, Any]) -> dict[str, Seen]:
    changed: dict[str, Seen] = {}
    is_touched = False
    for path, (stamp, sha256) in body["files"].items():
        now = stamp_of(path)
        if not now or now == stamp:
            continue
        content = _content(path) if sha256 else ""
        if content and content == sha256:
            body["files"][path] = (now, sha256)
            is_touched = True
        else:
            changed[path] = (now, content)
    if is_touched:
        with contextlib.suppress(OSError):  # then they are hashed the next time, too
            write_json(note, body)
    return changed


def write_note(
    note: Path, before: str, sources: Iterable[tuple[str, str]], seen: dict[str, Seen]
) -> None:
    """Note the local files among a chunk's sources (kind and value); `before` was their `state`.

    `seen` has the files that were looked at; archives are looked at here.
    """
    files: dict[str, Seen] = {}
    for kind, value in sources:
        if kind != "path":
            continue
        if archive := members.split(value):
            files |= {part: (stamp_of(part), "") for part in members.parts(archive[0])}
        elif value in seen:
            files[value] = seen[value]
    if files or note.exists():
        write_json(note, {"state": before, "files": files})


def stamp_of(path: str) -> str:
    """Return size and time of what lies at a path; empty where nothing is to be seen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a string, as in the list: a Path takes longer
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def _content(path: str) -> str:
    """Return the hash of a plain file; empty for anything else, and where it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return ""
        return sha256_file(path)
    except OSError:
        return ""
