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
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.errors import UserError, first_line
from pipeline.runtime import checkpoint_sets
from pipeline.runtime.checkpoint_sets import (
    SHORT_S,
    ArchivedSet,
    SetInfo,
    Settings,
    fingerprint,
)
from pipeline.runtime.files import atomic_path, remove_leftovers, sha256_file, write_text

FORMAT = 3
FORMATS = {2, 3}  # that are read; 2 has no `code`
SHOWN = 8  # files or settings in one message


def untranslated(info: SetInfo) -> SetInfo:
    """What most checkpoints were made with needs no translation."""
    return info


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in `folder`, all of the same `settings` and `code`.

    The last `keep` stay, and those of every `keep_every`-th step.
    """

    folder: Path
    settings: Settings
    keep: int
    label: str  # begins the messages
    keep_every: int | None = None  # steps
    code: Mapping[str, str] = field(default_factory=dict)  # file -> hash of its meaning
    on_code_change: Literal["stop", "resume", "restart"] = "stop"
    companions: tuple[Path, ...] = ()  # weights and logs, that are set aside with checkpoints
    # what older checkpoints say of what they were made with, in words of today
    translate: Callable[[SetInfo], SetInfo] = untranslated
    # at which steps other code took over (`on_code_change=resume`), and what had changed
    code_changes: list[dict[str, Any]] = field(default_factory=list)

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
            "code": json.dumps(dict(self.code), sort_keys=True),
            "code_changes": list(self.code_changes),
        }
        try:
            with atomic_path(path) as temporary:
                _write(body, temporary)
                write_text(_hash_file(path), f"{sha256_file(temporary)}  {path.name}\n")
            _sync(self.folder)
            self._drop(path)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or first_line(error)
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
        """Return the newest sound state of these settings and code, or None where there is none.

        Left-overs of an interrupted write are removed. Checkpoints of others are set aside
        (`runtime.checkpoint_sets`), and those of just these brought back.

        Raises:
            UserError: where only the code differs, half an hour of training depends on it, and
                `on_code_change` is `stop`.
        """
        remove_leftovers(self.folder)
        state, present = self.newest()
        candidates: list[tuple[SetInfo, ArchivedSet | None]] = [(present, None)] if present else []
        sets = checkpoint_sets.archived(self.folder)
        candidates += [(self.translate(each.info), each) for each in sets]
        verdicts = [info.compare(self.settings, self.code) for info, _ in candidates]
        verdict = next((each for each in ("same", "code") if each in verdicts), None)
        archive, resumes, changes = None, False, list[dict[str, Any]]()
        if verdict is not None:
            info, archive = candidates[verdicts.index(verdict)]
            resumes = verdict == "same" or self._resumes_other_code(info, changes)
        if present is not None and not (resumes and archive is None):
            self._set_aside(present)
            state = None
            self.code_changes.clear()
        if resumes and archive is not None:
            checkpoint_sets.restore(self.folder, archive, self.companions)
            self.say(
                f"brought back: the training of before of just these settings ({archive.folder})"
            )
            state, _ = self.newest()
        self.code_changes.extend(changes)
        return state

    def newest(self) -> tuple[dict[str, Any] | None, SetInfo | None]:
        """Return the newest sound state, and what it was made with."""
        for path in reversed(self._paths()):
            state = self._read(path)
            if state is not None:
                self.code_changes[:] = state.get("code_changes", [])
                return state, self.translate(SetInfo.of(state, path))
        return None, None

    def _resumes_other_code(self, info: SetInfo, changes: list[dict[str, Any]]) -> bool:
        """Whether `on_code_change` has a training of other code resumed; adds it to `changes`."""
        files = checkpoint_sets.changed_files(info.code, self.code)
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        shown = ", ".join(files[:SHOWN]) + more
        what = f"the meaning of {shown} has changed"
        if not info.code:
            what = "it was made before files and pictures were noted, so nobody can compare them"
        hours = f"{info.step:,} steps, {info.seconds / 3600:.1f} h"
        if self.on_code_change == "resume":
            changes.append({"step": info.step, "files": files if info.code else []})
            self.say(f"going on with other code (on_code_change=resume): {what}")
            return True
        if self.on_code_change == "stop" and info.seconds >= SHORT_S:
            raise UserError(
                f"{self.label}: there is a training of these settings ({hours}), and {what}",
                place=str(self.folder),
                remedy="take the edit back; or trainer.on_code_change=resume goes on with it (the "
                "report says so), =restart sets it aside and begins anew",
            )
        self.say(f"beginning anew ({hours}): {what}")
        return False

    def last_good(self) -> str:
        """Name the newest checkpoint whose hash is right, for an error's remedy."""
        return last_good_in(self.folder)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Return the state in `path`, or None, and say so, where it is damaged."""
        if not is_sound(path):
            self.say(f"warning: {path} is damaged or was not finished: passed over")
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if state["format"] in FORMATS:
                return state
        except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError):
            pass  # whole, but not written by `save`
        self.say(f"warning: {path} is no checkpoint of this version: passed over")
        return None

    def _set_aside(self, info: SetInfo) -> None:
        archive = checkpoint_sets.archive(self.folder, info, self.companions)
        changed = checkpoint_sets.differences(info.settings, self.settings)
        files = checkpoint_sets.changed_files(info.code, self.code)
        changed += [f"{name} has changed" for name in files]
        why = "; ".join(changed[:SHOWN]) or "settings"
        self.say(f"starting anew: {why}. What was there is kept in {archive}")

    def say(self, message: str) -> None:
        """Print one line to standard error."""
        print(f"[{self.label}] {message}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Resumption:
    """Where a part of an evaluation keeps its training, and what that depends on."""

    folder: Path
    settings: Settings = field(default_factory=dict)
    label: str = "head"  # begins the messages

    def checkpoints(self, purpose: str = "", **settings: Any) -> Checkpoints:
        """Return the checkpoints of a training for `purpose`, of these `settings`, too."""
        state = {"settings": dict(self.settings), **settings}
        return Checkpoints(self.folder / purpose, state, 1, self.label)


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


def is_sound(path: Path) -> bool:
    """Whether a checkpoint is there, whole, and of the bytes that were written."""
    recorded = _hash_file(path)
    return (
        path.exists()
        and recorded.exists()
        and recorded.read_text(encoding="utf-8").split()[:1] == [sha256_file(path)]
    )


def last_good_in(folder: Path) -> str:
    """Name the newest checkpoint in a folder whose hash is right, for an error's remedy."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if is_sound(path):
            return f"the last good checkpoint is {path}"
    return "there is no checkpoint yet"
