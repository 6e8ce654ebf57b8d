"""Finds archives, on this machine or elsewhere, and has each unpacked once, for all jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import Download
from pipeline.records import Outcome
from pipeline.videos import archive_formats, archives, download, fetching
from pipeline.videos.archives import MARK, Unpacked
from pipeline.videos.claims import Claim
from pipeline.videos.download import Fetched
from pipeline.videos.partial import place

DEPTH = 4  # archives in archives in archives: further down is nobody's data set


class Archives:
    """The archives of a data set, unpacked in folders below `folder`.

    Where an archive cannot be had, its place is taken by the `Fetched` that says why.
    """

    def __init__(self, folder: Path, settings: Download) -> None:
        self.folder, self.settings = folder, settings
        self.found: dict[str, Unpacked | Fetched] = {}

    def find(self, source: str) -> tuple[Unpacked | Fetched, str]:
        """Return the archive that `ARCHIVE!/MEMBER` is in, unpacked, and the member's name in it.

        Raises:
            UserError: a program or package is missing, or the disk is full.
        """
        address, member = archives.split(source) or (source, "")
        if address not in self.found:
            self.found[address] = self._outer(address)
        archive = self.found[address]
        for _ in range(DEPTH):
            inner = archives.split(member)
            if inner is None or isinstance(archive, Fetched):
                break
            address, member = f"{address}{MARK}{inner[0]}", inner[1]
            if address not in self.found:
                self.found[address] = self._inner(address, archive, inner[0])
            archive = self.found[address]
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
        folder = place(self.folder, address)
        stamp = [address, self.settings.unpack_ratio]
        if done := archives.unpacked(folder, stamp):
            return done
        claim = _claim(folder)
        try:
            if done := archives.unpacked(folder, stamp):
                return done
            files = self._parts(folder / "parts", names)
            if isinstance(files, Fetched):
                return files
            done = self._unpack(files, folder, stamp)
            for path in files:  # all that was in them lies beside them now
                path.unlink(missing_ok=True)
            return done
        finally:
            claim.release()

    def _parts(self, folder: Path, urls: Sequence[str]) -> list[Path] | Fetched:
        """Fetch the parts of an archive, or say of the first that cannot be had why."""
        from pipeline.videos.web import Request

        targets = [folder / url.partition("?")[0].rpartition("/")[2] for url in urls]
        got: dict[Path, Fetched] = {}
        fetching.fetch(
            [
                Request(url, target, inspect=download.anything)
                for url, target in zip(urls, targets, strict=True)
            ],
            self.settings,
            got.__setitem__,
        )
        for target in targets:
            if got[target].outcome is not Outcome.OK:
                reason = f"its archive ({target.name}): {got[target].reason}"
                return Fetched(got[target].outcome, reason)
        return targets

    def _local(self, address: str, files: list[Path]) -> Unpacked | Fetched:
        """Unpack an archive that is on this machine, unless that is done already."""
        try:
            status = [path.stat() for path in files]
        except (FileNotFoundError, NotADirectoryError) as error:
            name = Path(error.filename).name
            return Fetched(Outcome.MISSING, f"its archive: no such file ({name})")
        except OSError as error:
            return Fetched(Outcome.FAILED, f"its archive cannot be read: {error.strerror}")
        changes = [[file.st_size, file.st_mtime_ns] for file in status]
        stamp = [address, self.settings.unpack_ratio, changes]
        folder = place(self.folder, address)
        if done := archives.unpacked(folder, stamp):
            return done
        claim = _claim(folder)
        try:
            return archives.unpacked(folder, stamp) or self._unpack(files, folder, stamp)
        finally:
            claim.release()

    def _unpack(self, files: list[Path], folder: Path, stamp: Any) -> Unpacked:
        """Unpack into the folder, whose claim is ours."""
        print(f"unpacking {files[0].name} into {folder}", flush=True)
        ratio = self.settings.unpack_ratio
        if len(files) > 1 and all(archive_formats.is_zip(path) for path in files):
            # Each part was put into a zip of its own: what is in those are the parts.
            inner: list[Path] = []
            for number, path in enumerate(files):
                part = archives.unpack([path], folder / f"part{number}", stamp, ratio)
                if part.outcome is not Outcome.OK:
                    return part
                inner += archives.files_in(part)
            files = inner
        return archives.unpack(files, folder, stamp, ratio)


def _claim(folder: Path) -> Claim:
    claim = Claim(folder)
    claim.wait(lambda: print(f"waiting for the job that unpacks {folder}", flush=True))
    return claim
