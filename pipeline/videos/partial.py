"""A file that has come in part: kept beside its target, with a note that tells what it is of."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from pipeline.files import read_json, write_json
from pipeline.records import Outcome
from pipeline.videos.download import Fetched


def place(folder: Path, address: str, suffix: str = "") -> Path:
    """Return where in `folder` the file from `address` belongs: a name unlike any other's.

    It is known again by people, and one of 256 sub-folders keeps the folder small.
    """
    name = Path(unquote(urlsplit(address).path.rpartition("/")[2]))
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", name.stem)[:60]
    if not suffix and re.fullmatch(r"\.[A-Za-z0-9]{1,5}", name.suffix):
        suffix = name.suffix.lower()
    digest = hashlib.sha256(address.encode()).hexdigest()
    return folder / digest[:2] / f"{stem}-{digest[:16]}{suffix}"


class Partial:
    """The part of `target` that is here already, of the file at `address`.

    The file has the claim's token in its name: a process whose claim was taken over may still be
    writing, so another never writes into its file, but goes on from a copy.
    """

    def __init__(self, address: str, target: Path, token: str) -> None:
        self.address, self.target = address, target
        self.path = target.with_name(f"{target.name}.{token}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.target.parent.mkdir(parents=True, exist_ok=True)

    def begun(self) -> tuple[int, str]:
        """Return how many bytes there are, and of which version of the file; (0, "") for none."""
        try:
            note = read_json(self.note)
            part = self.target.with_name(Path(note["part"]).name)
            validator = str(note["validator"]) if note["url"] == self.address else ""
            if part != self.path:  # of a job that was killed
                if validator:
                    shutil.copyfile(part, self.path)
                    self._write_note(validator)
                part.unlink(missing_ok=True)
            return (self.path.stat().st_size, validator) if validator else (0, "")
        except (OSError, json.JSONDecodeError, LookupError, TypeError):
            return 0, ""

    def restart(self, validator: str) -> IO[bytes]:
        """Open for the whole file, whose version is called `validator` (empty: has no name)."""
        self.path.unlink(missing_ok=True)
        self._write_note(validator)
        return self.path.open("wb")

    def resume(self) -> IO[bytes]:
        """Open for the rest of the file."""
        return self.path.open("ab")

    def finish(self, inspect: Callable[[Path], Fetched]) -> Fetched:
        """Give the file its name, if `inspect` finds it good."""
        fetched = inspect(self.path)
        if fetched.outcome is not Outcome.OK:
            self.discard()
            return fetched
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)
        return replace(fetched, file=self.target.as_posix())

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _write_note(self, validator: str) -> None:
        note = {"url": self.address, "validator": validator, "part": self.path.name}
        write_json(self.note, note)
