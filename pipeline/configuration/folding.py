"""Names that some file systems take for one: macOS's APFS and Windows' NTFS do not tell capitals
apart, APFS neither how a letter is composed. Such names are refused everywhere, so that a list and
an experiment are the same on every machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params

REASON = "differ in capitals alone: some file systems (macOS) take them for one file"


def folded(name: str) -> str:
    """Return what is the same for all names that such a file system takes for one.

    Canonical caseless matching: The Unicode Standard, section 3.13, D145.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different names that such a file system takes for one."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(folded(name), name)
        if first != name:
            return first, name
    return None


def check_folders(params: Params) -> None:
    """Compare the names of the experiment and of its data sets with the folders that are there.

    Raises:
        UserError: for a folder whose name differs from one of these in capitals alone.
    """
    kinds = {"name": ExperimentLayout(params.name).folder}
    for name in params.data_sets:
        key = f"evaluation_data.{name}" if name in params.evaluation_data else "data.name"
        kinds[key] = DataLayout(name).derived
    for key, folder in kinds.items():
        there = _names_in(folder.parent)
        if folder.name not in there and (pair := alike([*there, folder.name])):
            raise UserError(
                f"{folder.parent / pair[0]} is there already, and {pair[0]} and {pair[1]} {REASON}",
                place=key,
                remedy=f"call it {pair[0]}, or something else",
            )


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
