"""A checkout that nothing was run in, and one in which the chain is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from .workspace import Workspace, checkout


@pytest.fixture
def fresh(project: Path, tmp_path: Path) -> Workspace:
    """A clean checkout, composed for the tiny experiment."""
    workspace = checkout(project, tmp_path / "fresh")
    workspace.compose()
    return workspace


@pytest.fixture(scope="session")
def chain(project: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with `finished`, a checkout with the whole chain done, and `first.txt`, what that
    printed. It is made once, by that one of pytest's processes which asks first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "chain"
    with FileLock(f"{folder}.lock"):
        if not (folder / "first.txt").exists():
            workspace = checkout(project, folder / "finished")
            workspace.compose()
            (folder / "first.txt").write_text(workspace.snakemake().stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def first_output(chain: Path) -> str:
    """What the chain printed."""
    return (chain / "first.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def finished(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """This process's copy of the finished checkout; not to be changed (`copy` it)."""
    return Workspace(chain / "finished").copy(tmp_path_factory.mktemp("chain") / "finished")
