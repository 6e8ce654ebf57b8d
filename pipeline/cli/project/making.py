"""Writes the files of a project, and a record of them.

The record says what each file was as it was written, so that an upgrade knows which the user has
edited.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pipeline
from pipeline.cli.project import files as project_files
from pipeline.errors import UserError
from pipeline.runtime.files import read_mapping, sha256_file, write_json, write_text

SETTINGS = "params.yaml"  # the user's own from the beginning
LINKS = {"profiles": "workflow/profiles"}  # where a plain `snakemake` looks for them


@dataclass(frozen=True)
class Record:
    """Which version wrote a project's files, and the SHA-256 of each as it was written."""

    version: str = ""
    package: str = ""  # `of_package` of that version
    files: Mapping[str, str] = field(default_factory=dict)

    NAME = "workflow/project.json"

    @classmethod
    def load(cls, folder: Path) -> Record:
        """Read a project's record; an empty one where it has none.

        Raises:
            UserError: where it cannot be read.
        """
        path = folder / cls.NAME
        if not path.exists():
            return cls()
        try:
            return cls(**read_mapping(path))
        except TypeError as error:
            remedy = "restore it, or remove it: all files then count as edited"
            problem = f"no record of a project: {error}"
            raise UserError(problem, place=str(path), remedy=remedy) from None

    @classmethod
    def of(cls, folder: Path) -> Record:
        """Take the files of a folder, which this version has written, for a record."""
        files = {name: sha256_file(folder / name) for name in files_of(folder)}
        return cls(pipeline.__version__, of_package(), files)

    def save(self, folder: Path) -> None:
        """Write it into the project."""
        write_json(folder / self.NAME, asdict(self))


def of_package() -> str:
    """Return a hash of the files that this package has for projects."""
    from pipeline.configuration.code import combined

    root = project_files.root()
    return combined({name: sha256_file(root / name) for name in project_files.names(root)})


def files_of(folder: Path) -> Iterator[str]:
    """Yield the names of the files of a project that was just made, but for its settings."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and name not in (SETTINGS, Record.NAME):
            yield name


def make(folder: Path, settings: str) -> None:
    """Write the files of a project with these settings into an empty folder.

    Plugins that the settings name are looked for in the working folder.
    """
    (folder / SETTINGS).write_text(settings, encoding="utf-8")
    source = project_files.root()
    for name in project_files.names(source):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, folder / name)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    config = folder / ".dvc" / "config"
    text = config.read_text(encoding="utf-8")  # the groups are in the installed package
    text = text.replace("config_dir = pipeline/conf", "config_module = pipeline.conf")
    config.write_text(text, encoding="utf-8")
    # The stages of dvc.yaml, for these settings and a package that lies elsewhere.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(folder / "workflow" / "mirror.py")]
    subprocess.run(command, env=environment, check=True)
    Record.of(folder).save(folder)


def renew(folder: Path, name: str, text: str) -> None:
    """Write a file that follows from the settings; where it was as recorded, it still is."""
    record, path = Record.load(folder), folder / name
    is_unedited = path.is_file() and record.files.get(name) == sha256_file(path)
    write_text(path, text)
    if is_unedited:
        files = {**record.files, name: sha256_file(path)}
        replace(record, files=files).save(folder)
