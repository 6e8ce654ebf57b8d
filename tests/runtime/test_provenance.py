"""Provenance is true where it can be known, null where not, and never an error."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime import provenance

ME = ("-c", "user.name=test", "-c", "user.email=test@localhost")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *ME, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def code_version(folder: Path, path: str | None = None) -> dict[str, Any]:
    """Ask the copy of the module in `folder` which code it is."""
    program = "import json, pipeline.runtime.provenance as p; print(json.dumps(p.code_version()))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PATH": path if path is not None else os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    version: dict[str, Any] = json.loads(done.stdout)
    return version


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder outside git with a small package `pipeline`."""
    package = tmp_path / "pipeline" / "runtime"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    shutil.copy(provenance.__file__, package)
    return tmp_path


def test_the_revision_and_whether_the_code_differs_from_it(copy: Path) -> None:
    """Catches a dirty flag that never rises, or that rises for results and params.yaml."""
    git(copy, "init")
    git(copy, "add", "pipeline/*.py")
    git(copy, "commit", "-m", "first")
    (copy / ".gitignore").write_text("__pycache__/\n")
    (copy / "params.yaml").write_text("a: 1\n")
    clean = code_version(copy)
    assert (clean["revision"], clean["dirty"]) == (git(copy, "rev-parse", "HEAD"), False)
    (copy / "pipeline" / "__init__.py").write_text("x = 1\n")
    dirty = code_version(copy)
    assert (dirty["revision"], dirty["dirty"]) == (clean["revision"], True)
    assert dirty["source_sha256"] != clean["source_sha256"]


def test_outside_git_it_is_unknown(copy: Path) -> None:
    """Catches a crash without a repository or without git, or a made-up revision."""
    outside = code_version(copy)
    assert (outside["revision"], outside["dirty"]) == (None, None)
    assert code_version(copy, path="")["source_sha256"] == outside["source_sha256"]


def test_anothers_repository_is_not_ours(copy: Path) -> None:
    """Catches the revision of a project that merely has us in its .venv."""
    git(copy, "init")
    (copy / "theirs.txt").touch()
    git(copy, "add", "theirs.txt")
    git(copy, "commit", "-m", "theirs")
    assert code_version(copy)["revision"] is None


def test_results_can_be_shared() -> None:
    """Catches values that JSON cannot hold, and host names or folders of this machine."""
    found = provenance.provenance()
    text = json.dumps(found)
    assert {"python", "torch", "numpy"} <= found["packages"].keys()
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["memory_gib"] > 0
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert str(provenance.PACKAGE) not in text
