"""The package as pip installs it: its command in an empty folder, and in a project of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ..examples.test_extending import apply_section
from ..workflow.workspace import checkout, environment

pytestmark = pytest.mark.system
Run = Callable[..., str]


@pytest.fixture(scope="module")
def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that has the wheel, and what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    source = checkout(project, folder / "source")
    pip = (sys.executable, "-m", "pip")
    source.run(*pip, "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    commands = folder / "venv" / "bin"
    source.run(sys.executable, "-m", "venv", "--without-pip", str(commands.parent))
    scheme = {"base": str(commands.parent), "platbase": str(commands.parent)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    others = sysconfig.get_path("purelib")
    (packages / "others.pth").write_text(f"{others}\n", encoding="utf-8")
    source.run(*pip, "--python", str(commands / "python"), "install", "-q", "--no-deps", str(wheel))
    return commands


@pytest.fixture(scope="module")
def run(installed: Path) -> Run:
    """Run a command of the environment in a folder; return what it prints."""

    def run(folder: Path, name: str, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [str(installed / name), *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def made(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that `init` made, with the tiny experiment done."""
    folder = tmp_path_factory.mktemp("made")
    printed = run(folder, "sigma-pipeline", "init", "project", "experiment=tiny")
    assert printed == "made project; next, in it: snakemake --cores all\n"
    run(folder / "project", "python", "-m", "snakemake", "--cores", "2")
    return folder / "project"


def test_a_project_runs_to_its_end(made: Path, run: Run) -> None:
    """Catches a file that the wheel lacks, a path that only a checkout has, a second `init` that
    takes what is there away, and stages that DVC cannot read or finds no settings for."""
    assert (made / "results" / "tiny" / "report.html").is_file()
    planned = run(made, "python", "-m", "snakemake", "-n", "--quiet", "rules", "host")
    assert "Nothing to be done" in planned
    run(made, "sigma-pipeline", "versions", "record")
    status = run(made, "python", "-m", "dvc", "status")
    assert status == "code:\n\talways changed\n"
    before = (made / "params.yaml").read_bytes()
    refused = run(made, "sigma-pipeline", "init", ".", "experiment=demo", status=2)
    assert "params.yaml" in refused
    assert (made / "params.yaml").read_bytes() == before
    program = (
        "from dvc.utils.hydra import compose_and_dump as c;"
        "c('out.yaml', None, 'pipeline.conf', 'config', None, ['experiment=tiny'])"
    )
    run(made, "python", "-c", program)  # as `dvc exp run -S` does
    assert (made / "out.yaml").read_bytes() == before


def test_a_method_is_added_outside_of_a_checkout(project: Path, run: Run, tmp_path: Path) -> None:
    """Catches a plugin, or a choice of its own, that a project finds in a checkout alone."""
    run(tmp_path, "sigma-pipeline", "init", "method")
    folder = tmp_path / "method"
    (test,) = apply_section(project, "A loss", folder)
    run(folder, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    chosen = ("experiment=one", "name=own", "plugins=[plugins.log_cosh]", "objective=pixel_demo")
    run(folder, "sigma-pipeline", "compose", *chosen, "objective/loss=log_cosh")
    assert "kind: log_cosh" in (folder / "params.yaml").read_text(encoding="utf-8")
    assert "pretrain" in run(folder, "python", "-m", "snakemake", "-n", "--quiet", "rules", "host")
    run(folder, "sigma-pipeline", "upgrade")
    assert "- plugins" in (folder / "dvc.yaml").read_text(encoding="utf-8")  # what `code` is of


def test_commands_work_in_an_empty_folder(made: Path, run: Run, tmp_path: Path) -> None:
    """Catches a command that relies on the files of a checkout, or on a project."""
    model = str(made / "results" / "tiny" / "runs" / "sigma_mlp" / "model.safetensors")
    videos = sorted((made / "downloads").rglob("*.mp4"))[:3]
    folder = tmp_path / "videos"
    folder.mkdir()
    for video in videos:
        (folder / video.name).symlink_to(video)
    command = "sigma-pipeline"
    assert "python -m" not in run(tmp_path, command, "--help")
    assert "compose" in run(tmp_path, command, "survey", "videos", "experiment=tiny")
    run(tmp_path, command, "embed", model, "videos", "-o", "features.parquet")
    first = f"videos/{videos[0].name}"
    assert videos[1].name in run(
        tmp_path, command, "neighbours", "features.parquet", "--query", first
    )
    run(tmp_path, command, "export", model, "--to", "safetensors", "--check-on", first, "-o", "out")
    printed = run(tmp_path, command, "evaluate", "--run", "sigma_mlp", status=2)
    assert "sigma-pipeline init DIR" in printed
    assert "sigma-pipeline init DIR" in run(tmp_path, command, "compose", "experiment=tiny")


def test_an_encoder_is_evaluated_without_a_project(made: Path, run: Run, tmp_path: Path) -> None:
    """Catches a stage that needs more than its settings and the files of the stage before it."""
    for name in ("params.yaml", "data", "results"):
        (tmp_path / name).symlink_to(made / name)
    scores = made / "results" / "tiny" / "runs" / "random" / "evaluation.json"
    before = scores.stat().st_mtime_ns
    run(tmp_path, "sigma-pipeline", "evaluate", "--run", "random")
    assert scores.stat().st_mtime_ns != before
