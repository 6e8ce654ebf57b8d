"""Settings that `dvc exp run -S` composes, with the real command; nothing is trained."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from .workspace import Workspace


@dataclass(frozen=True)
class Project(Workspace):
    """A project that `init` made; the package is where PYTHONPATH says, as if installed."""

    package: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; standard error is part of the output."""
        return Workspace(self.folder).run(
            "env", f"PYTHONPATH={self.package}", *command, check=check
        )


@pytest.fixture(params=["checkout", "init"])
def workspace(request: pytest.FixtureRequest, project: Path, tmp_path: Path) -> Workspace:
    """A folder in which nothing was run, with the settings of the tiny experiment."""
    if request.param == "checkout":
        fresh: Workspace = request.getfixturevalue("fresh")
        git(fresh, "init", "--quiet")
        return fresh
    made = Project(tmp_path / "made", project)
    Project(tmp_path, project).run(
        *(sys.executable, "-m", "pipeline", "init", str(made.folder), "experiment=tiny")
    )
    return made


def git(workspace: Workspace, *words: str) -> str:
    me = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return workspace.run("git", *me, *words).stdout


@pytest.mark.system
def test_they_are_composed_in_the_projects_folder_alone(workspace: Workspace) -> None:
    """Catches an experiment that is queued with the settings of before, since its params.yaml lies
    in a subfolder, and a project's own choice that is not found."""
    own = workspace.folder / "conf" / "model" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [demo, _self_]\nwidth: 48\n", encoding="utf-8")
    inner = replace(workspace, folder=workspace.folder / "notes")
    inner.folder.mkdir()
    git(workspace, "add", "--all")
    git(workspace, "commit", "--quiet", "--message", "project")
    queue = ("exp", "run", "--queue", "-S", "experiment=demo", "-S", "model=own", "--name", "own")
    refused = inner.dvc(*queue, check=False)
    assert refused.returncode != 0
    assert f"remedy: give the same command in {workspace.folder}" in refused.stdout
    assert not list(inner.folder.iterdir())
    assert git(workspace, "status", "--porcelain") == ""
    assert "own" not in workspace.dvc("queue", "status").stdout

    workspace.dvc(*queue)
    queued = yaml.safe_load(git(workspace, "show", "refs/exps/celery/stash:params.yaml"))
    assert queued["name"] == "demo"
    assert queued["runs"]["pixel"]["model"]["width"] == 48
