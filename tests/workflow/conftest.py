"""A checkout that nothing was run in, and one in which the chain is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from .workspace import Workspace, checkout


@pytest.fixture
def fresh(project: Path, tmp_path: Path) -> Workspace:
    """A clean checkout, composed for the tiny experiment."""
    workspace = checkout(project, tmp_path / "fresh")
    workspace.compose()
    return workspace


@pytest.fixture(scope="session")
def first_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output") / "first.txt"


@pytest.fixture(scope="session")
def finished(
    project: Path, tmp_path_factory: pytest.TempPathFactory, first_output: Path
) -> Workspace:
    """A checkout with the whole chain done; not to be changed (`copy` it)."""
    workspace = checkout(project, tmp_path_factory.mktemp("chain") / "finished")
    workspace.compose()
    first_output.write_text(workspace.snakemake().stdout, encoding="utf-8")
    return workspace
