"""Sets of checkpoints: the one in a run's folder, and those that were set aside. None is deleted.

A set is all that one training has come to under some settings and some code: checkpoints, and
where they are there weights, metrics and curves. One that is not gone on with is moved to
`set-aside/NNN-FINGERPRINT/`, numbered in the order of time; `set.json` there says what it is of.
Before a training begins anew, a set of just its settings and code is looked for and brought back:
whoever changes a setting and changes it back goes on where they were.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.runtime.files import read_json, write_json

ASIDE = "set-aside"
DESCRIPTION = "set.json"
FINISHED = "finished.json"  # a copy of pretrain.json, which Snakemake deletes when it likes to
SHORT_S = 1800.0  # seconds of training that are done again without asking
OWN = re.compile(r"step-\d{8}\.pt(\.sha256)?|finished\.json")  # of a set's files, in its folder
Settings = Mapping[str, Any]  # nested, of JSON values
Verdict = Literal["same", "code", "settings"]


def fingerprint(settings: Settings) -> str:
    """Return a hash of everything that decides what is learned; equal settings, equal hash."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class SetInfo:
    """What a set was made with, and how far it is."""

    settings: Settings
    code: Mapping[str, str]  # file -> hash of its meaning; empty where that was not noted
    step: int
    seconds: float  # of training
    date: str = ""  # when its newest checkpoint was written

    @classmethod
    def of(cls, state: Mapping[str, Any], path: Path) -> SetInfo:
        """Read it from the checkpoint in `path`, whose content `state` is."""
        seconds = sum(session.get("seconds", 0.0) for session in state.get("sessions", ()))
        written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
        return cls(
            json.loads(state["settings"]),
            json.loads(state.get("code", "{}")),
            state["step"],
            round(seconds, 3),
            written.isoformat(timespec="seconds"),
        )

    def compare(self, settings: Settings, code: Mapping[str, str]) -> Verdict:
        """Say what a training of these settings and code has in common with this one."""
        if fingerprint(self.settings) != fingerprint(settings):
            return "settings"
        return "same" if dict(self.code) == dict(code) else "code"


@dataclass(frozen=True)
class ArchivedSet:
    """A set that was set aside."""

    folder: Path
    info: SetInfo

    @property
    def number(self) -> int:
        return int(self.folder.name.split("-")[0])


def archived(folder: Path) -> list[ArchivedSet]:
    """Return the sets that lie aside in a folder of checkpoints, the newest first."""
    paths = (folder / ASIDE).glob(f"[0-9]*-*/{DESCRIPTION}")
    sets = [ArchivedSet(path.parent, SetInfo(**read_json(path))) for path in paths]
    return sorted(sets, key=lambda each: -each.number)


def archive(folder: Path, info: SetInfo, companions: Sequence[Path]) -> Path:
    """Move the set in `folder`, and the `companions` that are there, out of the way.

    The description is written first: a set that is moved halfway is found, and moved on, by its
    name.
    """
    number = max((each.number for each in archived(folder)), default=0) + 1
    digest = fingerprint({"settings": info.settings, "code": dict(info.code)})
    place = folder / ASIDE / f"{number:03d}-{digest[:12]}"
    write_json(place / DESCRIPTION, asdict(info))
    for path in [*_own(folder), *companions]:
        if path.exists():
            path.rename(place / path.name)
    return place


def restore(folder: Path, chosen: ArchivedSet, companions: Sequence[Path]) -> None:
    """Move a set back to where it came from; nothing else of its kind is there."""
    homes = {each.name: each for each in companions}
    for path in [*_own(chosen.folder), *(chosen.folder / name for name in homes)]:
        if path.exists():
            path.rename(homes.get(path.name, folder / path.name))
    (chosen.folder / DESCRIPTION).unlink()
    chosen.folder.rmdir()


def is_empty(folder: Path) -> bool:
    """Whether a folder of checkpoints holds none, nor a set that was put aside."""
    return not any(folder.glob("step-*.pt")) and not archived(folder)


def _own(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if OWN.fullmatch(path.name))


def changed_files(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Name the files whose meaning differs."""
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


def differences(before: Settings, after: Settings, prefix: str = "") -> list[str]:
    """Name the keys whose values differ: `trainer.epochs was 2, is 4`."""
    changed = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            changed.append(f"{prefix}{key} was {_short(old)}, is {_short(new)}")
    return changed


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:17]}..."
