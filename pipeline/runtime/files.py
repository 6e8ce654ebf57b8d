"""Writing files so that nobody ever sees half of one, and hashing them.

Every writer in this project goes through `atomic_path`: with hard- or symlinked DVC
caches an in-place write would also change the cached version.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT}  # no fault of what was just worked on: all that follows fails


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it to `path` if the block succeeds.

    The temporary name keeps the suffix of `path` (ffmpeg chooses a container by it).
    On an exception the temporary file is removed and `path` is left as it was.
    The file gets the permissions of any new file: safetensors would let its owner alone read it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    temporary.touch()
    mode = temporary.stat().st_mode & 0o777
    temporary.unlink()
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fchmod(handle.fileno(), mode)
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def reserve(file: int, size: int) -> None:
    """Make an open file as long as `size` bytes, with room on the disk for all of them.

    Raises OSError where the disk is full: before the work, and not by a signal (SIGBUS), which ends
    a process that touches a page of mapped memory for which there is no room.
    """
    if size and hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def remove_leftovers(*paths: Path) -> None:
    """Remove the temporary files that killed writers of these files, or in these folders, left.

    Every stage calls it as it starts, with what its job alone writes: a temporary file of another
    job, which may be at work, has another name or lies in another folder. The name of a path may be
    a pattern.
    """
    for path in paths:
        within = path.rglob(".*.tmp*") if path.is_dir() else ()
        for leftover in (*path.parent.glob(f".{path.stem}.????????.tmp{path.suffix}"), *within):
            leftover.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_mapping(path: Path | str, remedy: str = "") -> dict[str, Any]:
    """Read a JSON file of somebody else's that holds an object.

    Raises:
        UserError: where it cannot be read, or holds anything else; with what helps, if given.
    """
    content = None
    try:
        content = read_json(path)
        problem = f"a JSON {type(content).__name__}, not an object"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        problem = f"not valid JSON: {error}"
    if not isinstance(content, dict):
        raise UserError(problem, place=str(path), remedy=remedy)
    return content


def mapping_if_readable(path: Path | str) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one where it cannot be read."""
    try:
        return read_mapping(path)
    except UserError:
        return {}


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def disk_full(error: BaseException, place: Path | str = "") -> UserError | None:
    """Return the error that stops a job where a full disk, or a quota, was met; else None."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    return UserError(
        "the disk is full, or a quota is used up",
        place=str(place or error.filename or Path.cwd()),
        remedy="make room and run the same command again: it goes on where it was",
    )
