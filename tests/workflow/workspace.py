"""Copies of the project in which the real commands run, on a configuration as small as can be."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.configuration import composition, video_lists


@dataclass(frozen=True)
class Workspace:
    """A copy of the project."""

    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; standard error is part of the output."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start `python -m MODULE ...` in a process group of its own, which heeds Ctrl-C."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def wait_for(self, pattern: str, process: subprocess.Popen[str]) -> None:
        """Wait until the process has made a file of such a path; fail where it ends before."""
        deadline = time.monotonic() + 600
        while not list(self.folder.glob(pattern)):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def compose(self, *overrides: str) -> None:
        """Write params.yaml of the tiny experiment, as `python -m pipeline compose` does."""
        with contextlib.chdir(self.folder):
            text = composition.compose(["experiment=tiny", *overrides])
            video_lists.check_columns(composition.parse(text, place="params.yaml"))
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")

    def snakemake(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "snakemake", "--cores", "2", *options, check=check)

    def dvc(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *options, check=check)

    def planned(self) -> dict[str, int]:
        """Return how many jobs of each rule `snakemake -n` would run."""
        said = self.snakemake("--dry-run", "--quiet", "rules", "host").stdout
        if "Nothing to be done" in said:
            return {}
        table = said.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
        rows = dict(line.split() for line in table if line.strip())
        return {rule: int(count) for rule, count in rows.items() if rule not in ("all", "total")}

    def copy(self, folder: Path) -> Workspace:
        """Copy everything, time stamps too, so that nothing is to be done in the copy either."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(folder)


def heed_interrupts() -> None:
    """Undo, in a new process, that Ctrl-C is ignored: what a shell runs with `&` inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment() -> dict[str, str]:
    """An environment in which `python`, `snakemake` and `dvc` are those that run the tests.

    As on a machine without an activated environment, they are not on PATH; and as from a terminal,
    a `make` in it is not one that `make test` called, which prints more.
    """
    inherited = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    variables = {k: v for k, v in os.environ.items() if k not in inherited}
    own = Path(sys.executable).parent
    path = [p for p in os.environ.get("PATH", "").split(os.pathsep) if Path(p) != own]
    return variables | {
        "PATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "VERBOSE": "1",  # what jobs print is what most tests look for
    }


def checkout(project: Path, folder: Path) -> Workspace:
    """Copy the files of the project that are or could be committed; nothing that was made."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("the project is not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name == "dvc.lock" or name.startswith("results/"):  # what was made of the demo
            continue
        source, target = project / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return Workspace(folder)
