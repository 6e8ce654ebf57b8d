"""Training states on disk: written whole, hashed, and never resumed under other settings.

A checkpoint is `step-00000100.pt` (tensors and primitives alone, loaded with
`weights_only=True`) beside `step-00000100.pt.sha256` (as `sha256sum --check` reads it). Both are
written under temporary names and reach the disk, the hash first, before they are renamed: a
checkpoint without a hash was never finished, and one whose bytes differ from it is damaged. It is
passed over, with a warning, for the one before it.

What is in one: docs/resuming.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.files import atomic_path, sha256_file, write_text

FORMAT = 2
Settings = Mapping[str, Any]  # nested, of JSON values


def fingerprint(settings: Settings) -> str:
    """Return a hash of everything that decides what is learned; equal settings, equal hash."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in `folder`, all of the same `settings`.

    The last `keep` stay, and those of every `keep_every`-th step.
    """

    folder: Path
    settings: Settings
    keep: int
    label: str  # begins the messages
    keep_every: int | None = None  # steps

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after `step` steps, then drop those that need not stay.

        When it returns, the checkpoint outlasts a power failure.

        Raises:
            UserError: where the disk is full or the folder cannot be written; the last good
                checkpoint stays and is named.
        """
        path = self.folder / f"step-{step:08d}.pt"
        body = {
            **state,
            "format": FORMAT,
            "step": step,
            "fingerprint": fingerprint(self.settings),
            "settings": json.dumps(self.settings, sort_keys=True),
        }
        try:
            with atomic_path(path) as temporary:
                _write(body, temporary)
                write_text(_hash_file(path), f"{sha256_file(temporary)}  {path.name}\n")
            _sync(self.folder)
            self._drop(path)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"the checkpoint of step {step:,} cannot be written: {why}",
                place=str(path),
                remedy="make room or allow writing, then run the same command again and it goes "
                f"on; {self.last_good()}",
            ) from error
        return path

    def _drop(self, newest: Path) -> None:
        """Delete the checkpoints before `newest` that need not stay, and all after it.

        The latter are damaged ones: training went back behind them.
        """
        paths = self._paths()
        last = [path for path in paths if path <= newest][-self.keep :]
        for path in paths:
            is_nth = self.keep_every is not None and _step(path) % self.keep_every == 0
            if path > newest or (path not in last and not is_nth):
                _hash_file(path).unlink(missing_ok=True)
                path.unlink()

    def latest(self) -> dict[str, Any] | None:
        """Return the newest sound state of these settings, or None where there is none.

        Left-overs of an interrupted write are removed. Checkpoints of other settings are moved to
        `set-aside/` (one such set is kept), and what differs is said.
        """
        for leftover in self.folder.glob(".*.tmp.*"):
            leftover.unlink(missing_ok=True)
        for path in reversed(self._paths()):
            state = self._read(path)
            if state is None:
                continue
            if state["fingerprint"] != fingerprint(self.settings):
                self._set_aside(json.loads(state["settings"]))
                return None
            return state
        return None

    def last_good(self) -> str:
        """Name the newest checkpoint whose hash is right, for an error's remedy."""
        for path in reversed(self._paths()):
            if _is_sound(path):
                return f"the last good checkpoint is {path}"
        return "there is no checkpoint yet"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Return the state in `path`, or None, and say so, where it is damaged."""
        if not _is_sound(path):
            self.say(f"warning: {path} is damaged or was not finished: passed over")
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if state["format"] == FORMAT:
                return state
        except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError):
            pass  # whole, but not written by `save`
        self.say(f"warning: {path} is no checkpoint of this version: passed over")
        return None

    def _set_aside(self, other: Settings) -> None:
        place = self.folder / "set-aside"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path in self._paths():
            for file in (path, _hash_file(path)):
                if file.exists():
                    file.rename(place / file.name)
        changed = "; ".join(differences(other, self.settings)) or "settings"
        self.say(f"starting anew: {changed}. The checkpoints from before are in {place}")

    def say(self, message: str) -> None:
        """Print one line to standard error."""
        print(f"[{self.label}] {message}", file=sys.stderr, flush=True)


def differences(before: Settings, after: Settings, prefix: str = "") -> list[str]:
    """Name the keys whose values differ: `trainer.epochs was 2, is 4`."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {_short(old)}, is {_short(new)}")
    return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:17]}..."


def _write(body: Mapping[str, Any], path: Path) -> None:
    try:
        torch.save(body, path)
    except RuntimeError as error:  # so torch reports a full disk, without the word
        if shutil.disk_usage(path.parent).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _sync(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, as renaming alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _is_sound(path: Path) -> bool:
    recorded = _hash_file(path)
    return recorded.exists() and recorded.read_text(encoding="utf-8").split()[:1] == [
        sha256_file(path)
    ]
