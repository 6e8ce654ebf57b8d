"""A file that has come in part: kept beside its target, with a note that tells what it is of."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from pipeline.data.fetch.fetched import Fetched, note_length
from pipeline.data.records import Outcome
from pipeline.runtime.files import read_json, write_json

Version = dict[str, str]  # what tells one version of a file from another, by name


def target_path(folder: Path, address: str, suffix: str = "") -> Path:
    """Return where in `folder` the file from `address` belongs: a name unlike any other's.

    It is known again by people, and one of 256 sub-folders keeps the folder small.
    """
    name = PurePosixPath(file_name_of(address))
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", name.stem)[:60]
    if not suffix and re.fullmatch(r"\.[A-Za-z0-9]{1,5}", name.suffix):
        suffix = name.suffix.lower()
    digest = hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()
    return folder / digest[:2] / f"{stem}-{digest[:16]}{suffix}"


def file_name_of(address: str) -> str:
    """Return how the file at an address is called there; several may be called the same."""
    try:
        path = urlsplit(address).path
    except ValueError:  # whoever asks for the file will say what is wrong with the address
        path = address
    return unquote(path).rpartition("/")[2]


class Partial:
    """The part of `target` that is here already, of the file at `address`.

    The file has the claim's token in its name: a process whose claim was taken over may still be
    writing, so another never writes into its file, but goes on from a copy.
    """

    def __init__(self, address: str, target: Path, token: str) -> None:
        self.target = target
        # The address may hold a password.
        self._of = hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()
        self.path = target.with_name(f"{target.name}.{token}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.target.parent.mkdir(parents=True, exist_ok=True)

    def begun(self) -> tuple[int, Version]:
        """Return how many bytes there are, and of which version of the file; (0, {}) for none."""
        try:
            note = read_json(self.note)
            part = self.target.with_name(Path(note["part"]).name)
            known = dict(note["version"]) if note["of"] == self._of else {}
            if part != self.path:  # of a job that was killed
                if known:
                    shutil.copyfile(part, self.path)
                    self._write_note(known)
                part.unlink(missing_ok=True)
            return (self.path.stat().st_size, known) if known else (0, {})
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return 0, {}

    def restart(self, version: Version) -> IO[bytes]:
        """Open for the whole file, of this version (empty: nothing can tell it from another)."""
        self.path.unlink(missing_ok=True)
        self._write_note(version)
        return self.path.open("wb")

    def resume(self) -> IO[bytes]:
        """Open for the rest of the file."""
        return self.path.open("ab")

    def finish(self, inspect: Callable[[Path], Fetched], *, length_known: bool) -> Fetched:
        """Give the file its name, if `inspect` finds it good."""
        fetched = inspect(self.path)
        if fetched.outcome is not Outcome.OK:
            self.discard()
            return fetched
        note_length(self.target, known=length_known)
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)
        return replace(fetched, file=self.target.as_posix(), length_known=length_known)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _write_note(self, version: Version) -> None:
        write_json(self.note, {"of": self._of, "version": version, "part": self.path.name})
