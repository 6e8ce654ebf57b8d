"""Finds archives, on this machine or elsewhere, and has each unpacked once, for all jobs."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import Download
from pipeline.data.fetch import archive_formats, archives, dispatch
from pipeline.data.fetch.archives import MARK, Limits, Unpacked
from pipeline.data.fetch.fetched import Fetched, failed
from pipeline.data.fetch.partial import file_name_of, target_path
from pipeline.data.manifest import redaction
from pipeline.data.records import Outcome
from pipeline.runtime import claims
from pipeline.runtime.claims import Claim

DEPTH = 4  # archives in archives in archives: further down is nobody's data set


class ArchiveCache:
    """The archives of a data set, unpacked in folders below `folder`.

    Where an archive cannot be had, its place is taken by the `Fetched` that says why.
    """

    def __init__(self, folder: Path, settings: Download) -> None:
        self.folder, self.settings = folder, settings
        self.archives: dict[str, Unpacked | Fetched] = {}

    def find(self, source: str) -> tuple[Unpacked | Fetched, str]:
        """Return the archive that `ARCHIVE!/MEMBER` is in, unpacked, and the member's name in it.

        Raises:
            UserError: a program or package is missing, or the disk is full.
        """
        address, member = archives.split(source) or (source, "")
        if address not in self.archives:
            self.archives[address] = self._outer(address)
        archive = self.archives[address]
        for _ in range(DEPTH):
            inner = archives.split(member)
            if inner is None or isinstance(archive, Fetched):
                break
            address, member = f"{address}{MARK}{inner[0]}", inner[1]
            if address not in self.archives:
                self.archives[address] = self._inner(address, archive, inner[0])
            archive = self.archives[address]
        return archive, member

    def _inner(self, address: str, outer: Unpacked, pattern: str) -> Unpacked | Fetched:
        """Unpack an archive that lies in an archive."""
        files = []
        for name in archives.parts(pattern):
            if problem := outer.problem(name):
                return problem
            files.append(outer.path(name))
        return self._local(address, files)

    def _outer(self, address: str) -> Unpacked | Fetched:
        names = archives.parts(address)
        if "://" not in address:
            return self._local(address, [Path(name) for name in names])
        # The folder's name is in records that are passed on.
        folder = target_path(self.folder, redaction.redact(address))
        stamp = [_hash(address), self.settings.unpack_ratio]
        most = self.settings.max_bytes
        done = archives.unpacked(folder, stamp, most)
        if done and not done.may_be_whole_next_time:
            return done
        with _claimed(folder):
            done = archives.unpacked(folder, stamp, most)
            if done and not done.may_be_whole_next_time:
                return done
            fetches = done.fetches + 1 if done else 1
            if done:  # half of it came, and nobody had said how long it is
                archives.forget(folder)
            files = self._parts(folder / "parts", names)
            if isinstance(files, Fetched):
                return files
            done = self._unpack([path for path, _ in files], folder, stamp)
            if not all(known for _, known in files):
                done = archives.note_unknown_length(done, fetches)
            shutil.rmtree(folder / "parts")  # all that was in them lies beside them now
            return done

    def _parts(self, folder: Path, urls: Sequence[str]) -> list[tuple[Path, bool]] | Fetched:
        """Fetch the parts of an archive, each with whether its length was known.

        Or say of the first that cannot be had why.
        """
        from pipeline.data.fetch.request import Allowance, Request

        allowance = Allowance(self.settings.max_bytes)
        targets = [folder / name for name in _names(urls)]
        got: dict[Path, Fetched] = {}
        dispatch.fetch(
            [
                Request(url, target, is_archive=True, allowance=allowance)
                for url, target in zip(urls, targets, strict=True)
            ],
            self.settings,
            got.__setitem__,
        )
        for target in targets:
            if got[target].outcome is not Outcome.OK:
                reason = f"its archive ({target.name}): {got[target].reason}"
                return replace(got[target], reason=reason)
        return [(target, got[target].length_known) for target in targets]

    def _local(self, address: str, files: list[Path]) -> Unpacked | Fetched:
        """Unpack an archive that is on this machine, unless that is done already."""
        try:
            status = [path.stat() for path in files]
        except (FileNotFoundError, NotADirectoryError) as error:
            name = Path(error.filename).name
            return Fetched(Outcome.MISSING, f"its archive: no such file ({name})")
        except OSError as error:
            return Fetched(Outcome.FAILED, f"its archive cannot be read: {error.strerror}")
        except ValueError as error:  # such as a name that no file can have
            return failed(error)
        if not all(stat.S_ISREG(file.st_mode) for file in status):
            return Fetched(Outcome.FAILED, "its archive is no file")
        changes = [[file.st_size, file.st_mtime_ns] for file in status]
        stamp = [address, self.settings.unpack_ratio, changes]
        folder = target_path(self.folder, address)
        most = self.settings.max_bytes
        if done := archives.unpacked(folder, stamp, most):
            return done
        with _claimed(folder):
            return archives.unpacked(folder, stamp, most) or self._unpack(files, folder, stamp)

    def _unpack(self, files: list[Path], folder: Path, stamp: list[Any]) -> Unpacked:
        """Unpack into the folder, whose claim is ours."""
        print(f"unpacking {files[0].name} into {folder}", flush=True)
        ratio, most = self.settings.unpack_ratio, self.settings.max_bytes
        if len(files) > 1 and all(archive_formats.is_zip(path) for path in files):
            # Each part was put into a zip of its own: what is in those are the parts.
            inner: list[Path] = []
            for number, path in enumerate(files):
                left = most - sum(path.stat().st_size for path in inner)
                part = archives.unpack([path], folder / f"part{number}", stamp, Limits(ratio, left))
                if part.outcome is not Outcome.OK:
                    return part
                inner += archives.files_in(part)
            files = inner
        return archives.unpack(files, folder, stamp, Limits(ratio, most))


def _hash(address: str) -> str:
    """Return what an address is known by in files: it may hold a password."""
    return hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()


def _names(urls: Sequence[str]) -> list[str]:
    """Return a name for each part: its own, which the next part of a rar is found by.

    Unless two have the same, as where all addresses end with `/content`.
    """
    names = [file_name_of(url) for url in urls]
    plain = all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) for name in names)
    if plain and len({name.lower() for name in names}) == len(names):
        return names
    tidy = (re.sub(r"[^A-Za-z0-9.-]+", "_", name)[-60:] for name in names)
    return [f"{number:04d}-{name}" for number, name in enumerate(tidy)]


def _claimed(folder: Path) -> AbstractContextManager[Claim]:
    return claims.held(folder, f"waiting for the job that unpacks {folder}")
