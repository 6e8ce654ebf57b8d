"""`sigma-pipeline init DIR`: the folder of a project, in which Snakemake and DVC run the chain."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.errors import UserError

SUMMARY = "make a project folder: Snakefile, workflow, params.yaml, dvc.yaml"
DEFAULT = ("experiment=demo",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="new, or without such files")
    parser.add_argument("overrides", nargs="*", help=f"as of compose; default: {' '.join(DEFAULT)}")


def run(options: argparse.Namespace) -> None:
    """Write the project's files, and make the folder a git and DVC repository.

    Raises:
        UserError: where one of the files is there and another, or git is not installed.
    """
    from pipeline.cli.project import making
    from pipeline.configuration import composition

    folder: Path = options.folder
    if not shutil.which("git"):
        raise UserError("git is not here, on which DVC relies", remedy="install git")
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "project"
        made.mkdir()
        making.make(made, composition.compose(options.overrides or DEFAULT))
        _refuse_others(folder, made, list(making.LINKS))
        shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    print(f"made {folder}; next, in it: snakemake --cores all")


def _refuse_others(folder: Path, made: Path, links: list[str]) -> None:
    there = [
        file.relative_to(made).as_posix()
        for file in sorted(made.rglob("*"))
        if file.is_file()
        and os.path.lexists(target := folder / file.relative_to(made))
        and not (target.is_file() and target.read_bytes() == file.read_bytes())
    ]
    there += [name for name in links if (folder / name).exists()]
    if there:
        raise UserError(
            f"the folder has files that init would overwrite: {', '.join(there)}",
            place=str(folder),
            remedy="give another folder, or move them away; a project that is there gets the files "
            "of this version by: sigma-pipeline upgrade",
        )
