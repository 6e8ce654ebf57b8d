"""`sigma-pipeline init DIR`: the folder of a project, in which Snakemake and DVC run the chain."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError

SUMMARY = "make a project folder: Snakefile, workflow, params.yaml, dvc.yaml"
DEFAULT = ("experiment=demo",)
LINKS = {"profiles": "workflow/profiles"}  # where a plain `snakemake` looks for them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="new, or without such files")
    parser.add_argument("overrides", nargs="*", help=f"as of compose; default: {' '.join(DEFAULT)}")


def run(options: argparse.Namespace) -> None:
    """Write the project's files, and make the folder a git and DVC repository.

    Raises:
        UserError: where one of the files is there and another, or git is not installed.
    """
    folder: Path = options.folder
    if not shutil.which("git"):
        raise UserError("git is not here, on which DVC relies", remedy="install git")
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "project"
        made.mkdir()
        _write(made, options.overrides or DEFAULT)
        _refuse_others(folder, made)
        shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    print(f"made {folder}; next, in it: snakemake --cores all")


def _write(folder: Path, overrides: Sequence[str]) -> None:
    """Write the files of a project with these settings into an empty folder."""
    from pipeline.cli import project_files
    from pipeline.configuration import composition

    (folder / "params.yaml").write_text(composition.compose(overrides), encoding="utf-8")
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
    command = [sys.executable, "workflow/mirror.py"]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def _refuse_others(folder: Path, made: Path) -> None:
    there = [
        file.relative_to(made).as_posix()
        for file in sorted(made.rglob("*"))
        if file.is_file()
        and os.path.lexists(target := folder / file.relative_to(made))
        and not (target.is_file() and target.read_bytes() == file.read_bytes())
    ]
    there += [name for name in LINKS if (folder / name).exists()]
    if there:
        raise UserError(
            f"the folder has files that init would overwrite: {', '.join(there)}",
            place=str(folder),
            remedy="give another folder, or move them away",
        )
