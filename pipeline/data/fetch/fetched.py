"""What fetching a source can end with, and looking at a file that is here already."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.decode import file_type
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime.files import disk_full, sha256_file, write_text


@dataclass(frozen=True)
class Fetched:
    """What became of a source; `file`, `sha256` and `bytes` where it is ok."""

    outcome: Outcome
    reason: str = ""
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    cut: bool = False  # the file is the wanted part alone, not the whole source
    length_known: bool = True  # false: nobody said how long it is, so it may have ended early


def inspect_local(path: Path, max_bytes: int | None = None) -> Fetched:
    """Look at a file that is on this machine already; it stays where it is."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return Fetched(Outcome.NOT_A_VIDEO, "a folder, not a video")
        # Of these others, reading would not end, or not begin.
        if not stat.S_ISREG(status.st_mode) or _is_of_the_kernel(path):
            return Fetched(Outcome.NOT_A_VIDEO, "a device, a pipe or the like, not a file")
        if max_bytes is not None and status.st_size > max_bytes:
            reason = f"larger than {max_bytes:,} bytes (data.download.max_bytes): refused"
            return Fetched(Outcome.FAILED, reason)
        return inspect(path)
    except (FileNotFoundError, NotADirectoryError):
        return Fetched(Outcome.MISSING, "no such file")
    except PermissionError:
        return Fetched(Outcome.FORBIDDEN, "no permission to read the file")
    except OSError as error:
        return Fetched(Outcome.FAILED, f"the file cannot be read: {error.strerror}")
    except ValueError as error:  # such as a name that no file can have
        return failed(error)


def _is_of_the_kernel(path: Path) -> bool:
    return path.resolve().parts[1:2] in (("proc",), ("sys",))


def failed(error: Exception) -> Fetched:
    """Return the record of a source that raised what nobody foresaw.

    Raises:
        UserError: it was for the user to put right, such as a full disk.
        MemoryError: it was the machine's.
    """
    if isinstance(error, UserError | MemoryError):
        raise error
    if full := disk_full(error):
        raise full from error
    return Fetched(Outcome.FAILED, describe_error(error))


def describe_error(error: BaseException, what: str = "") -> str:
    """Return the kind and the words of an error on one line."""
    words = " ".join(str(error).split())
    return f"{what}{type(error).__name__}{': ' if words else ''}{words}"[:200]


def inspect(path: Path) -> Fetched:
    """Hash a file, unless its first bytes show that it is no video.

    Raises:
        OSError: it cannot be read.
    """
    if reason := file_type.not_a_video(path):
        return Fetched(Outcome.NOT_A_VIDEO, reason)
    return Fetched(
        Outcome.OK, file=path.as_posix(), sha256=sha256_file(path), bytes=path.stat().st_size
    )


def accept_any(path: Path) -> Fetched:
    """Accept any file, such as an archive, unless it is empty or a page; it is not hashed."""
    size = path.stat().st_size
    if not size:
        return Fetched(Outcome.CORRUPT, "an empty file")
    with path.open("rb") as handle:
        if file_type.is_page(handle.read(1024)):
            return Fetched(Outcome.NOT_A_VIDEO, "a web page, not an archive")
    return Fetched(Outcome.OK, file=path.as_posix(), bytes=size)


def find_existing(
    path: Path,
    sha256s: Collection[str],
    inspect_file: Callable[[Path], Fetched],
    cut_short: str = "",
) -> Fetched | None:
    """Return the file that another job, or an earlier one, has put there; None to fetch it.

    One whose hash is none of `sha256s`, where some are promised, is to be fetched again, and so is
    the one whose hash is `cut_short`.
    """
    try:
        fetched = inspect_file(path)
    except FileNotFoundError:
        return None
    good = fetched.outcome is Outcome.OK and (not sha256s or fetched.sha256 in sha256s)
    if not good or (cut_short and fetched.sha256 == cut_short):
        return None
    return replace(fetched, length_known=not fetches(path))


def fetches(path: Path) -> int:
    """Return how often a file was fetched without anybody saying its length; 0: somebody did."""
    try:
        return int(_fetches(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    except ValueError:
        return 1


def note_length(path: Path, *, known: bool) -> None:
    """Note beside a file that is about to be there whether anybody said its length."""
    if known:
        _fetches(path).unlink(missing_ok=True)
    else:
        write_text(_fetches(path), str(fetches(path) + 1))


def _fetches(path: Path) -> Path:
    return path.with_name(f".{path.name}.fetches")


def verify_sha256(fetched: Fetched, sha256: str) -> Fetched:
    """Refuse a file whose hash is not the one that the list promises (if it promises any)."""
    if fetched.outcome is not Outcome.OK or not sha256 or fetched.sha256 == sha256:
        return fetched
    difference = f"its SHA-256 begins with {fetched.sha256[:12]}, not with {sha256[:12]}"
    return Fetched(Outcome.HASH_MISMATCH, f"not the file that the list promises: {difference}")
