"""Snakemake at work on a cluster: what it said, and the processes of its trainings."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.configuration.layout import ExperimentLayout

from .workspace import Workspace, environment

RESULTS = ExperimentLayout("tiny")


@dataclass(frozen=True)
class Submission:
    """A running `snakemake --profile ...`."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self.output.read_text(encoding="utf-8")

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 900) -> None:
        """Wait until a condition holds; fail where Snakemake ends before, or takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"snakemake ended before: {what}\n{self.said}")
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}\n{self.said}")
            time.sleep(0.1)

    def finish(self, seconds: float = 900) -> str:
        """Wait until it has succeeded; return what it said."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not done within {seconds} s:\n{self.said}")
        assert status == 0, self.said
        return self.said


@contextlib.contextmanager
def submitting(workspace: Workspace, profile: str, *targets: str) -> Iterator[Submission]:
    """Snakemake with a profile of the workspace; ended with the block, whatever happens in it."""
    output = workspace.folder / "snakemake.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *targets, f"--profile=workflow/profiles/{profile}"],
            cwd=workspace.folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Submission(process, output)
    finally:
        process.kill()
        process.wait()


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a YAML file as a user would with an editor."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def checkpoint(workspace: Workspace, run: str) -> str:
    """The newest checkpoint of a run; the empty string where there is none."""
    folder = workspace.folder / RESULTS.run(run).checkpoints
    return max((path.name for path in folder.glob("step-*.pt.sha256")), default="")


def trainings(workspace: Workspace, run: str) -> list[Path]:
    """The folders in /proc of the processes that train a run in this workspace."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            here = (place / "cwd").readlink() == workspace.folder
            if here and b"pretrain" in words and run.encode() in words:
                found.append(place)
    return found


def is_asked_to_stop(process: Path) -> bool:
    """Whether SIGTERM waits for a process that is stopped."""
    try:
        status = (process / "status").read_text()
    except OSError:
        return False
    pending = [
        line.split()[1] for line in status.splitlines() if line[:7] in ("SigPnd:", "ShdPnd:")
    ]
    return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in pending)


def is_paused(process: Path) -> bool:
    """Whether a signal has stopped the process until another lets it go on."""
    try:
        return "\nState:\tT" in (process / "status").read_text()
    except OSError:
        return False


def variable(process: Path, name: str) -> str | None:
    """A variable of a process's environment."""
    with contextlib.suppress(OSError):
        for entry in (process / "environ").read_bytes().split(b"\0"):
            if entry.startswith(f"{name}=".encode()):
                return entry.decode().partition("=")[2]
    return None
