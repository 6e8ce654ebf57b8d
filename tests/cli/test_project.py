"""Projects that `init` makes, and what `upgrade` does to the files of an older version."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.cli.doctor import workplace
from pipeline.cli.project import files, making, upgrading
from pipeline.configuration import composition
from pipeline.errors import UserError

OBSOLETE = "workflow/rules/obsolete.smk"
RULE, PROFILE = "workflow/rules/index.smk", "workflow/profiles/slurm/config.yaml"
NEW = "conf/README.md"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project made by a version whose Snakefile, index rule, Slurm profile
    and DVC stages were others, which had one rule more, and no folder for choices."""
    older = tmp_path / "older"
    for name in files.names(files.root()):
        (older / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files.root() / name, older / name)
    for name in ("Snakefile", RULE, PROFILE, "dvc.yaml"):
        text = (older / name).read_text(encoding="utf-8")
        (older / name).write_text(f"# of an older version\n{text}", encoding="utf-8")
    (older / OBSOLETE).write_text("# a rule\n", encoding="utf-8")
    (older / NEW).unlink()
    folder = tmp_path / "project"
    with monkeypatch.context() as patched:
        patched.setattr(files, "root", lambda: older)
        patched.chdir(tmp_path)
        assert main(["init", "project", "experiment=tiny"]) == 0
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder but git's."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def edit(path: Path) -> bytes:
    """Add a line to a file of a project, as a user might; return what it is then."""
    path.write_bytes(path.read_bytes() + b"# mine\n")
    return path.read_bytes()


def actions() -> Iterator[tuple[str, str]]:
    """Upgrade; yield each file that is spoken of, with what was done to it."""
    for line in upgrading.upgrade():
        word, _, name = line.strip().partition("  ")
        if line.startswith("  ") and not word.startswith("diff"):
            yield name.strip().partition(":")[0], word


def test_unedited_files_become_those_of_a_new_project(project: Path, tmp_path: Path) -> None:
    """Catches a file that is not renewed, left over or not brought; an edited one that is lost;
    and an upgrade that the next one does not know of."""
    own = (project / "params.yaml").read_bytes()
    assert dict(actions()) == {
        **dict.fromkeys(("Snakefile", RULE, PROFILE, "dvc.yaml"), "renewed"),
        OBSOLETE: "removed",
        NEW: "new",
    }
    assert (project / "params.yaml").read_bytes() == own
    assert main(["init", str(tmp_path / "other"), "experiment=tiny"]) == 0
    assert contents(project) == contents(tmp_path / "other")
    assert list(actions()) == []


def test_edited_files_stay(project: Path) -> None:
    """Catches an upgrade that overwrites or removes what the user wrote, brings back what she
    deleted, or keeps from her that this version has another file."""
    mine = {name: edit(project / name) for name in (PROFILE, OBSOLETE, ".gitignore")}
    (project / RULE).unlink()
    done = dict(actions())
    assert done[PROFILE] == done[OBSOLETE] == "kept"
    assert done[RULE] == "left out"
    assert ".gitignore" not in done  # this version has no other
    after = contents(project)
    assert {name: after[name] for name in mine} == mine
    assert after[f"{PROFILE}.new"] == (files.root() / PROFILE).read_bytes()
    assert [name for name in after if name.endswith(".new")] == [f"{PROFILE}.new"]
    assert RULE not in after
    said = "\n".join(upgrading.upgrade())  # again: nothing new, but what is left to do
    assert f"diff -u {PROFILE} {PROFILE}.new" in said
    assert contents(project) == after


def test_stages_written_for_other_settings_are_no_edit(project: Path) -> None:
    """Catches dvc.yaml that counts as the user's once `workflow/mirror.py` has written it, and an
    upgrade that writes it for the settings of `init`."""
    chosen = ["experiment=tiny", "benchmarks/order=standard"]
    (project / "params.yaml").write_text(composition.compose(chosen), encoding="utf-8")
    command = [sys.executable, "workflow/mirror.py"]
    source = {"PYTHONPATH": str(files.root()), "PATH": ""}
    subprocess.run(command, cwd=project, env=source, check=True)
    assert "order" in yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    assert dict(actions())["dvc.yaml"] == "renewed"
    assert "an older version" not in (project / "dvc.yaml").read_text(encoding="utf-8")
    assert "order" in yaml.safe_load((project / "dvc.yaml").read_text())["stages"]


def test_without_a_record_every_file_counts_as_edited(project: Path) -> None:
    """Catches an upgrade that takes files for unedited of which it knows nothing."""
    (project / making.Record.NAME).unlink()
    before = contents(project)
    done = dict(actions())
    assert done == {NEW: "new", **dict.fromkeys(("Snakefile", RULE, PROFILE, "dvc.yaml"), "kept")}
    assert before.items() <= contents(project).items()


def test_a_dry_run_changes_nothing(project: Path) -> None:
    """Catches one that writes, or says less than what an upgrade then does."""
    edit(project / PROFILE)
    before = contents(project)
    said = upgrading.upgrade(is_dry=True)
    assert contents(project) == before
    assert {line for line in said if line.startswith("  ")} <= set(upgrading.upgrade())


@pytest.mark.parametrize("reason", ["settings", "workflow", "checkout", "elsewhere"])
def test_refused_before_anything_is_changed(project: Path, reason: str) -> None:
    """Catches an upgrade that leaves a project which then does not start, or is at work."""
    match reason:
        case "settings":
            settings = project / "params.yaml"
            settings.write_text(f"unknown: 1\n{settings.read_text()}", encoding="utf-8")
            expected = "unknown: unknown key"
        case "workflow":
            (project / ".snakemake" / "locks").mkdir(parents=True)
            (project / ".snakemake" / "locks" / "0.input.lock").touch()
            expected = "has to wait"
        case "checkout":
            (project / "pipeline" / "__init__.py").touch()
            expected = "checkout"
        case _:
            (project / "params.yaml").unlink()
            expected = "no configuration here"
    before = contents(project)
    with pytest.raises(UserError, match=expected):
        upgrading.upgrade()
    assert contents(project) == before


def test_the_doctor_tells_of_an_older_version(project: Path) -> None:
    """Catches a project that nobody says is older than the package."""
    params = composition.load()
    (finding,) = workplace.project(params)
    assert (finding.status, finding.remedy) == ("warning", "sigma-pipeline upgrade")
    upgrading.upgrade()
    (finding,) = workplace.project(params)
    assert finding.status == "ok"


def test_choices_of_a_projects_own(project: Path) -> None:
    """Catches a choice that compose does not find or DVC composes otherwise, and one by whose name
    the pipeline's would be taken without a word."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    upgrading.upgrade()
    group = project / "conf" / "model"
    group.mkdir()
    text = "defaults:\n  - demo\n  - _self_\ndepth: 3\n"
    (group / "shallow.yaml").write_text(text, encoding="utf-8")
    assert "shallow" in composition.choices()["model"]
    chosen = ["experiment=one", "model=shallow"]
    composed = composition.compose(chosen)
    assert yaml.safe_load(composed)["runs"]["encoder"]["model"]["depth"] == 3
    out = project / "out.yaml"
    hydra.compose_and_dump(out, None, "pipeline.conf", "config", None, chosen)
    assert out.read_text(encoding="utf-8") == composed
    (group / "shallow.yaml").rename(group / "vit_small.yaml")
    with pytest.raises(UserError, match="model has a choice vit_small already"):
        composition.compose(chosen)
