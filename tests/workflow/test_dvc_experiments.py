"""Settings that `dvc exp run -S` composes, with the real command; nothing is trained."""

from __future__ import annotations

import pytest
import yaml

from .workspace import Workspace


def git(workspace: Workspace, *words: str) -> str:
    me = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return workspace.run("git", *me, *words).stdout


@pytest.mark.system
def test_they_are_composed_in_the_projects_folder_alone(fresh: Workspace) -> None:
    """Catches an experiment that is queued with the settings of before, since its params.yaml lies
    in a subfolder, and a project's own choice that is not found."""
    own = fresh.folder / "conf" / "model" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [demo, _self_]\nwidth: 48\n", encoding="utf-8")
    inner = Workspace(fresh.folder / "notes")
    inner.folder.mkdir()
    git(fresh, "init", "--quiet")
    git(fresh, "add", "--all")
    git(fresh, "commit", "--quiet", "--message", "project")
    queue = ("exp", "run", "--queue", "-S", "experiment=demo", "-S", "model=own", "--name", "own")
    refused = inner.dvc(*queue, check=False)
    assert refused.returncode != 0
    assert f"remedy: give the same command in {fresh.folder}" in refused.stdout
    assert not list(inner.folder.iterdir())
    assert git(fresh, "status", "--porcelain") == ""
    assert "own" not in fresh.dvc("queue", "status").stdout

    fresh.dvc(*queue)
    queued = yaml.safe_load(git(fresh, "show", "refs/exps/celery/stash:params.yaml"))
    assert queued["name"] == "demo"
    assert queued["runs"]["pixel"]["model"]["width"] == 48
