"""Videos inside archives: `ARCHIVE!/MEMBER` in place of a path or an address.

ARCHIVE is a tar (in any compression that Python reads), zip or rar file, or its parts as
`name-{00..19}`, which are joined. An archive is unpacked once, whole, by one job; the others wait.
What is inside is not trusted: members that are no plain files, or whose names lead out of the
folder, are refused one by one, and an archive that grows beyond reason as a whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pipeline.data.fetch import archive_formats
from pipeline.data.fetch.archive_formats import Damaged, Member
from pipeline.data.fetch.fetched import Fetched, describe_error, inspect_local
from pipeline.data.manifest.members import MARK as MARK
from pipeline.data.manifest.members import parts as parts
from pipeline.data.manifest.members import split as split
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime.files import disk_full, read_json, remove_leftovers, write_json

SLACK = 2**28  # bytes that any archive may grow to, however small it is
BLOCK = 2**20
FETCHES = 3  # of what may have come in half, at most
DEEPEST = 64  # folders in folders; no data set needs as many
LONGEST = 1000  # bytes of a member's name with its folders; 255 of each piece of it
PER_MEMBER = 512  # bytes that an empty member counts for: a million of them is no small thing


class _Bomb(Exception):  # noqa: N818 - of the archive, not of ours
    """The archive grows to more than it may."""


@dataclass(frozen=True)
class Unpacked:
    """An archive that lies unpacked in `folder`."""

    folder: Path
    refused: dict[str, list[str]]  # member -> outcome and reason
    outcome: Outcome = Outcome.OK  # or why members are not there
    reason: str = ""
    fetches: int = 0  # how often it was fetched without anybody saying how long it is

    @property
    def may_be_whole_next_time(self) -> bool:
        """Whether to fetch it again: it is damaged, perhaps because it did not come to its end."""
        return self.outcome is Outcome.CORRUPT and 0 < self.fetches < FETCHES

    def path(self, member: str) -> Path:
        """Return where a member lies, if it is there."""
        return self.folder / FILES / os.path.normpath(member)

    def problem(self, member: str) -> Fetched | None:
        """Return why a member is not there; None where it is."""
        if why := _name_problem(member):
            return Fetched(Outcome.FAILED, f"the archive's member {why}")
        if name := self.refused.get(os.path.normpath(member)):
            return Fetched(Outcome(name[0]), f"the archive's member {name[1]}")
        if self.path(member).exists():
            return None
        if self.outcome is not Outcome.OK:
            return Fetched(self.outcome, self.reason)
        return Fetched(Outcome.MISSING, "the archive has no such member")

    def fetched(self, member: str) -> Fetched:
        """Return what became of a member that is a video."""
        return self.problem(member) or inspect_local(self.path(member))


FILES, INDEX, BEGUN = "files", "unpacked.json", "begun.json"


def unpacked(folder: Path, stamp: list[Any], max_bytes: int) -> Unpacked | None:
    """Return what an earlier job has unpacked into `folder` from an archive of the same `stamp`.

    Its first entry says which archive, but so does the name of the folder.
    """
    try:
        index = read_json(folder / INDEX)
        outcome, fetches = Outcome(index["outcome"]), index.get("fetches", 0)
        too_large = outcome is Outcome.FAILED and index.get("max_bytes") != max_bytes
        if index["stamp"][1:] != stamp[1:] or too_large:
            return None
        return Unpacked(folder, index["refused"], outcome, index["reason"], fetches)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def forget(folder: Path) -> None:
    """Remove what was unpacked into `folder`, whose claim is the caller's."""
    (folder / INDEX).unlink(missing_ok=True)
    (folder / BEGUN).unlink(missing_ok=True)


def note_unknown_length(done: Unpacked, fetches: int) -> Unpacked:
    """Note how often an archive was fetched of which nobody said how long it is."""
    if done.outcome is Outcome.CORRUPT:
        write_json(done.folder / INDEX, read_json(done.folder / INDEX) | {"fetches": fetches})
    return replace(done, fetches=fetches)


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to."""

    ratio: float  # times its size; 256 MiB are never too much
    max_bytes: int

    def of(self, size: int) -> float:
        """Return the bytes that an archive of `size` bytes may grow to."""
        return min(max(self.ratio * size, SLACK), self.max_bytes)


def unpack(archive: Sequence[Path], folder: Path, stamp: list[Any], limits: Limits) -> Unpacked:
    """Unpack an archive, given as its parts, into `folder`; go on where a killed job stopped.

    `stamp` is what `unpacked` compares. The caller has the claim on the folder.

    Raises:
        UserError: the disk is full, or a program that reads such archives is missing.
    """
    begun = folder / BEGUN
    try:
        same = read_json(begun) == stamp
    except (OSError, ValueError):
        same = False
    files = folder / FILES
    if same:
        remove_leftovers(files, begun, folder / INDEX)
    else:
        shutil.rmtree(files, ignore_errors=True)
        write_json(begun, stamp)
    refused: dict[str, list[str]] = {}
    outcome, reason = Outcome.OK, ""
    try:
        archive = archive_formats.volumes(archive)
        limit = limits.of(sum(part.stat().st_size for part in archive))
        _write_all(archive_formats.members(archive), files, limit, refused)
    except _Bomb:
        shutil.rmtree(files, ignore_errors=True)
        outcome = Outcome.FAILED
        reason = (
            f"the archive grows to more than {limits.ratio:g} times its size (unpack_ratio), or "
            f"{limits.max_bytes:,} bytes (max_bytes): refused"
        )
    except Damaged as error:
        if error.whole:
            shutil.rmtree(files, ignore_errors=True)
        outcome, reason = Outcome.CORRUPT, f"the archive is damaged: {error}"[:200]
    except FileNotFoundError:
        return Unpacked(folder, {}, Outcome.MISSING, "there is no such archive")
    except OSError as error:
        if full := disk_full(error, folder):
            raise full from None
        return Unpacked(folder, {}, Outcome.FAILED, f"the archive cannot be read: {error.strerror}")
    index = {"stamp": stamp, "max_bytes": limits.max_bytes, "refused": refused}
    write_json(folder / INDEX, index | {"outcome": outcome.value, "reason": reason})
    return Unpacked(folder, refused, outcome, reason)


def _write_all(
    members: Iterable[Member], files: Path, limit: float, refused: dict[str, list[str]]
) -> None:
    """Write each member to its place, but for those that are there or may not be."""
    written: set[str] = set()
    total = 0
    for member in members:
        name = os.path.normpath(member.name)
        total += PER_MEMBER
        if why := member.refusal or _name_problem(member.name):
            refused[name] = [Outcome.FAILED, why]
            total += member.skipped  # nothing is written of it, but it is read
        elif member.sparse and total + member.size > limit:
            refused[name] = [Outcome.FAILED, f"has {member.size:,} bytes, most of them none"]
        # A second member of the same name counts, as for tar; of a killed job, equal size does.
        elif name not in written and _size(files / name) == member.size:
            total += member.size
            written.add(name)
        else:
            total += _write_one(member, files / name, limit - total, refused)
            written.add(name)
        if total > limit:
            raise _Bomb


def _write_one(member: Member, target: Path, limit: float, refused: dict[str, list[str]]) -> int:
    """Write a member, or note why it cannot be; return its bytes."""
    name = os.path.normpath(member.name)
    try:
        with member.open() as handle:
            return _write(handle, target, limit)
    except (_Bomb, Damaged, UserError):
        raise
    except OSError as error:
        if (refusal := _refusal(error)) is None:
            raise
        refused[name] = refusal
    except Exception as error:  # noqa: BLE001 - after it, others may be whole
        refused[name] = [Outcome.CORRUPT, describe_error(error, "is damaged: ")[:150]]
    return 0


def _refusal(error: OSError) -> list[str] | None:
    """Say why a member cannot be written, where that is the archive's doing."""
    if error.errno is None:
        return [Outcome.CORRUPT, f"is damaged: {error}"[:150]]
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return [Outcome.FAILED, "has the name of a folder, or lies in a file: refused"]
    if error.errno == errno.ENAMETOOLONG:
        return [Outcome.FAILED, "has too long a name: refused"]
    return None


def _write(handle: IO[bytes], target: Path, limit: float) -> int:
    """Write one file, whole or not at all; return its bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex}.tmp"  # never longer than a name may be
    size = 0
    try:
        with temporary.open("wb") as file:
            while block := handle.read(BLOCK):
                size += len(block)
                if size > limit:
                    raise _Bomb
                file.write(block)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1


def _name_problem(name: str) -> str:
    """Say why a member may not be called so; empty where it may."""
    pieces = name.split("/")
    if not name or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "has an absolute path: refused"
    if ".." in pieces:
        return "has a path that leads out of the archive: refused"
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        return "has a name with a character that is not allowed: refused"
    if len(pieces) > DEEPEST:
        return f"lies more than {DEEPEST} folders deep: refused"
    sizes = [len(piece.encode(errors="surrogateescape")) for piece in pieces]
    if max(sizes) > 255 or sum(sizes) + len(sizes) > LONGEST:
        return "has too long a name: refused"
    return ""


def files_in(done: Unpacked) -> Iterator[Path]:
    """Yield the files of an unpacked archive, in the order of their names."""
    return iter(sorted(path for path in (done.folder / FILES).rglob("*") if path.is_file()))
