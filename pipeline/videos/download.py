"""What fetching a source can end with, and looking at a file that is here already."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import sha256_file
from pipeline.records import Outcome
from pipeline.videos import probe


@dataclass(frozen=True)
class Fetched:
    """What became of a source; `file`, `sha256` and `bytes` where it is ok."""

    outcome: Outcome
    reason: str = ""
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    cut: bool = False  # the file is the wanted part alone, not the whole source


def local(path: Path) -> Fetched:
    """Look at a file that is on this machine already; it stays where it is."""
    try:
        if path.is_dir():
            return Fetched(Outcome.NOT_A_VIDEO, "a folder, not a video")
        return inspect(path)
    except (FileNotFoundError, NotADirectoryError):
        return Fetched(Outcome.MISSING, "no such file")
    except PermissionError:
        return Fetched(Outcome.FORBIDDEN, "no permission to read the file")
    except OSError as error:
        return Fetched(Outcome.FAILED, f"the file cannot be read: {error.strerror}")


def inspect(path: Path) -> Fetched:
    """Hash a file, unless its first bytes show that it is no video.

    Raises:
        OSError: it cannot be read.
    """
    if reason := probe.not_a_video(path):
        return Fetched(Outcome.NOT_A_VIDEO, reason)
    return Fetched(
        Outcome.OK, file=path.as_posix(), sha256=sha256_file(path), bytes=path.stat().st_size
    )


def anything(path: Path) -> Fetched:
    """Accept any file, such as an archive, unless it is empty; it is not hashed."""
    size = path.stat().st_size
    if not size:
        return Fetched(Outcome.CORRUPT, "an empty file")
    return Fetched(Outcome.OK, file=path.as_posix(), bytes=size)


def present(
    path: Path, sha256s: Collection[str], look: Callable[[Path], Fetched]
) -> Fetched | None:
    """Return the file that another job, or an earlier one, has put there; None to fetch it.

    One whose hash is none of `sha256s`, where some are promised, is to be fetched again.
    """
    try:
        fetched = look(path)
    except FileNotFoundError:
        return None
    good = fetched.outcome is Outcome.OK and (not sha256s or fetched.sha256 in sha256s)
    return fetched if good else None


def promised(fetched: Fetched, sha256: str) -> Fetched:
    """Refuse a file whose hash is not the one that the list promises (if it promises any)."""
    if fetched.outcome is not Outcome.OK or not sha256 or fetched.sha256 == sha256:
        return fetched
    found = f"its SHA-256 begins with {fetched.sha256[:12]}, not with {sha256[:12]}"
    return Fetched(Outcome.HASH_MISMATCH, f"not the file that the list promises: {found}")
