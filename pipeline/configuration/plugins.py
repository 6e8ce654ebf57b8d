"""Modules of the user's own, named in the configuration, that register what it may then name.

They lie in the project's folder, outside `pipeline`, and register a benchmark, mask, target or loss
when they are imported (docs/extending.md). Whoever checks a configuration has imported them before.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

from pipeline.configuration import code
from pipeline.errors import UserError


def load(modules: object, *, place: str) -> None:
    """Import plugins. What is no list of names is left to the schema to refuse.

    Raises:
        UserError: where one is not there, or cannot be imported.
    """
    names = modules if isinstance(modules, list | tuple) else ()
    if names and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for name in names:
        if not isinstance(name, str) or not code.find(name):
            remedy = "write it there, or take it out of `plugins`"
            problem = f"there is no module {name!r} in the project's folder"
            raise UserError(problem, place=place, remedy=remedy)
        try:
            importlib.import_module(name)
        except Exception as error:
            problem = f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}"
            raise UserError(problem, place=place, remedy="mend the module") from error


def load_from(path: Path) -> bool:
    """Import the plugins that a configuration file names; return whether it names any."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if section := re.search(r"(?m)^plugins:(?! *\[\]).*\n(?:[ -].*\n?)*", text):
        import yaml

        load(yaml.safe_load(section.group())["plugins"], place=str(path))
        return True
    return False


def is_one(module: str) -> bool:
    """Whether a module is no part of this package."""
    return module.partition(".")[0] != "pipeline"
