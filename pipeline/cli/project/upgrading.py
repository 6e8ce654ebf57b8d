"""What an upgrade of a project does to each of its files.

A file that is as the earlier version wrote it is replaced or removed. One that the user has edited
stays; where this version has another one than the earlier version had, that is put beside it.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pipeline
from pipeline.cli.project import making
from pipeline.cli.project.making import Record
from pipeline.cli.versions.tools import refuse_where_locked
from pipeline.configuration import composition
from pipeline.errors import UserError
from pipeline.runtime.files import atomic_path, sha256_file

BESIDE = ".new"  # added to the name of an edited file: this version's


@dataclass(frozen=True)
class Change:
    """What is done to a file: "kept" and "left out" are what the user decided."""

    name: str
    action: Literal["new", "renewed", "removed", "kept", "left out"]
    why: str = ""

    def __str__(self) -> str:
        return f"  {self.action:<8}  {self.name}" + (f": {self.why}" if self.why else "")


def upgrade(*, is_dry: bool = False) -> list[str]:
    """Renew the files of the project in the working folder; return what is to be said of it.

    Raises:
        UserError: where there is no such project, its settings are not of this version, or a
            workflow is at work in it.
    """
    folder = Path()
    if (folder / "pipeline" / "__init__.py").is_file():
        raise UserError(
            "this is a checkout, no project that init made",
            place=str(Path.cwd()),
            remedy="git pull renews it",
        )
    composition.load(making.SETTINGS)
    refuse_where_locked("an upgrade")
    record = Record.load(folder)
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "project"
        made.mkdir()
        making.make(made, composition.read(making.SETTINGS))
        new = Record.load(made)
        changes = [*_of_files(folder, made, record, new), *_of_links(folder)]
        if not is_dry:
            for change in changes:
                _apply(change, folder, made)
            new.save(folder)
    left = [f"{name}{BESIDE}" for name in new.files if (folder / f"{name}{BESIDE}").is_file()]
    return list(_said(changes, record, left, is_dry=is_dry))


def _of_files(folder: Path, made: Path, record: Record, new: Record) -> Iterator[Change]:
    for name in sorted({*record.files, *new.files}):
        before, now = record.files.get(name), new.files.get(name)
        path = folder / name
        own = sha256_file(path) if path.is_file() else None
        if own == now:
            continue
        if own is None:
            yield Change(name, "left out", "deleted here") if before else Change(name, "new")
        elif own == before:
            yield Change(name, "renewed" if now else "removed")
        elif now is None:
            yield Change(name, "kept", "edited here; this version has no such file")
        elif now != before:
            why = "edited here" if before else "no record says whether it was edited here"
            lines = _difference(path, made / name)
            yield Change(name, "kept", f"{why}; this version's differs by {lines}")


def _of_links(folder: Path) -> Iterator[Change]:
    for name in making.LINKS:
        if not os.path.lexists(folder / name):
            yield Change(name, "new")


def _difference(own: Path, other: Path) -> str:
    """Return how many lines another file has more and less: `+3 -1 lines`."""
    mine, theirs = (path.read_text(encoding="utf-8").splitlines() for path in (own, other))
    marks = [line[0] for line in difflib.ndiff(mine, theirs)]
    return f"+{marks.count('+')} -{marks.count('-')} lines"


def _apply(change: Change, folder: Path, made: Path) -> None:
    source, target = made / change.name, folder / change.name
    if change.action == "removed":
        target.unlink()
    elif source.is_symlink():
        target.symlink_to(source.readlink())
    elif change.action in ("new", "renewed"):
        _copy(source, target)
    elif change.action == "kept" and source.is_file():
        _copy(source, target.with_name(target.name + BESIDE))


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    shutil.copymode(source, target)


def _said(changes: list[Change], record: Record, left: list[str], *, is_dry: bool) -> Iterator[str]:
    earlier = f"from {record.version}" if record.version else "from a version that left no record"
    if not changes:
        yield f"the files are those of {pipeline.__version__}"
    else:
        what = "an upgrade would change" if is_dry else "upgraded"
        yield f"{what} {earlier} to {pipeline.__version__}:"
        yield from map(str, changes)
    if left:
        yield "to merge by hand, and then to remove:"
        yield from (f"  diff -u {name.removesuffix(BESIDE)} {name}" for name in left)
    yield f"{making.SETTINGS} and what was made stay as they are"
