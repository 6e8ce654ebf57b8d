"""Clearing the way after a kill, without harming a run that is at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .workspace import Workspace


@pytest.mark.parametrize("words", [("snakemake",), ("-m", "pipeline")], ids=" ".join)
def test_a_run_at_work_is_left_alone(project: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Catches a second `make run` that takes the lock away from the first."""
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("x\n", encoding="utf-8")
    # Does what its name says nothing about: waits, in the folder, under a name that is looked for.
    (tmp_path / "snakemake").write_text("input()\n", encoding="utf-8")
    (tmp_path / "pipeline.py").write_text("input()\n", encoding="utf-8")
    command = [sys.executable, *words]
    script = str(project / "workflow" / "free_lock.py")
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as working:
        done = Workspace(tmp_path).run(sys.executable, script, check=False)
        working.communicate(b"\n")
    assert done.returncode == 2
    assert str(working.pid) in done.stdout
    assert "Traceback" not in done.stdout
    assert lock.exists()


def test_a_stale_lock_is_removed(fresh: Workspace) -> None:
    """Catches a `make run` that stops at the lock of a killed one."""
    lock = fresh.folder / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{fresh.folder}/data/synthetic_tiny/manifest.json\n", encoding="utf-8")
    done = fresh.run(sys.executable, "workflow/free_lock.py")
    assert "going on" in done.stdout
    assert not lock.exists()


def test_without_a_lock_there_is_nothing_to_do(project: Path, tmp_path: Path) -> None:
    """Catches a clean folder that needs more than a look, and a process of another folder."""
    script = str(project / "workflow" / "free_lock.py")
    done = Workspace(tmp_path).run(sys.executable, script)
    assert done.stdout == ""
