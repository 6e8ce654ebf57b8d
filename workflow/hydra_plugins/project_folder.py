"""`dvc exp run -S` composes in the project's folder alone; DVC loads this by hydra.plugins_path.

DVC gives Hydra the groups by their full path, but writes params.yaml into the folder that it is
called in, and choices of a project's own are looked for there (`hydra.searchpath`): in another one
an experiment would run with the settings of before.
"""

from __future__ import annotations

from pathlib import Path

from dvc.exceptions import DvcException
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

PROJECT = Path(__file__).resolve().parents[2]


class ProjectFolder(SearchPathPlugin):
    """Refuses to compose in another folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:  # noqa: ARG002
        """Raise DvcException anywhere but in the project's folder."""
        if Path.cwd() != PROJECT:
            raise DvcException(
                f"-S composes params.yaml in the project's folder alone; this is {Path.cwd()}\n"
                f"remedy: give the same command in {PROJECT}"
            )
