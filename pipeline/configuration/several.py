"""`data=[...]` and `encoders=[...]`: lists in place of one override each for all that they name.

    data=[synthetic, lists/lips.csv]        the first is `data`, the others are `evaluation_data`
    encoders=[a.safetensors, {b: c.pth}]    a run without training for the weights of each

Data sets are choices of the group `data`, or lists of videos. In place of a list a mapping gives
names; else a data set has that of its choice or file, an encoder that of its file or folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

KEYS = ("data", "encoders")
# Names of files that say nothing of what is in them: their folder's name does.
PLAIN = {"model", "pytorch_model", "checkpoint", "list", "index"}


def expanded(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with each list replaced by what it stands for.

    Raises:
        UserError: where a list cannot be read, or two of its entries have one name.
    """
    new: list[str] = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in KEYS and value.lstrip().startswith(("[", "{")):
            named = _named(_parsed(override), override)
            new += _data(named) if key == "data" else _encoders(named)
        else:
            new.append(override)
    return new


def _parsed(override: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException as error:
        problem = f"this list cannot be read: {str(error).splitlines()[0]}"
        raise UserError(problem, place=override) from None


def _named(value: Any, place: str) -> dict[str, str]:
    """Return the entries of a list or a mapping by their names."""
    entries: list[tuple[str, str]] = []
    for each in [value] if isinstance(value, Mapping) else value:
        if isinstance(each, Mapping):
            entries += [(str(name), str(entry)) for name, entry in each.items()]
        else:
            entries.append((_name(str(each)), str(each)))
    names = [name for name, _ in entries]
    if not names or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        problem = f"two entries are called {', '.join(twice)}" if twice else "the list is empty"
        raise UserError(problem, place=place, remedy="give them names: {NAME: ENTRY, OTHER: ENTRY}")
    return dict(entries)


def _name(entry: str) -> str:
    path = Path(entry)
    name = path.parent.name if path.stem in PLAIN and path.parent.name else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-") or "unnamed"


def _data(named: Mapping[str, str]) -> list[str]:
    """Return the overrides for data sets: the first one's, then those of further ones."""
    new = []
    for number, (name, entry) in enumerate(named.items()):
        is_list = Path(entry).suffix == ".csv"
        choice = "folder" if is_list else entry
        key = f"evaluation_data.{name}" if number else "data"
        new.append(f"+data@{key}={choice}" if number else f"data={choice}")
        if is_list:
            new.append(f"{key}.manifest={entry}")
        if is_list or name != choice:
            new.append(f"{key}.name={name}")
    return new


def _encoders(named: Mapping[str, str]) -> list[str]:
    """Return the overrides for runs that take weights as they are."""
    new = []
    for name, weights in named.items():
        new += [
            f"+runs.{name}.model=${{model}}",  # where the weights do not know theirs
            f"+objective@runs.{name}.objective=pixel_demo",
            f"+trainer@runs.{name}.trainer=untrained",
            f"+runs.{name}.weights={weights}",
            f"+runs.{name}.pooling=mean",  # here, so that what follows can set it
            f"+runs.{name}.allow_other_clip=false",
        ]
    return new
