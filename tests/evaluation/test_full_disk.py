"""Stages on a disk that is full: a small one of memory, which only root may mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.configuration.layout import DataLayout, ExperimentLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.runtime.files import read_json

from .conftest import RUN

KIB = 1024
ROOM = (0, 8, 40, 80, 160, 320, 640, 1280, 2560, 20_000)  # KiB that are left
VOLATILE = {"seconds", "provenance", "cost"}


class SmallDisk:
    """A file system of its own, of which as much is filled as is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"

    def leave(self, room: int) -> None:
        """Leave so many bytes, in whole pages."""
        self.filler.write_bytes(b"")
        state = os.statvfs(self.folder)
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - room))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk: this user may not mount one")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def on_it(
    disk: SmallDisk, embedded_built: Path, embedded_params: Params, monkeypatch: pytest.MonkeyPatch
) -> SmallDisk:
    """The disk, with the embedded project on it, as the working directory."""
    project = disk.folder / "project"
    shutil.copytree(embedded_built, project)
    params = embedded_params.model_dump(mode="json")
    params["runs"] = {RUN: params["runs"][RUN]}
    params["segmentation"]["runs"] = params["severe"]["runs"] = [RUN]
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(project)
    return disk


def filled_until_done(
    disk: SmallDisk, command: list[str], manifest: Path, said: Callable[[], str]
) -> int:
    """Run a command with more and more room until it is done; return how often it was not."""
    for failures, room in enumerate(ROOM):
        disk.leave(room * KIB)
        status, error = cli.main(command), said()
        assert "Traceback" not in error, error[-1500:]
        if status == 0:
            return failures
        assert status == 2, error
        assert "error: the disk is full" in error or "No space left on device" in error
        assert "\n  remedy: make room" in error
        assert "run the same command again" in error
        assert not manifest.exists()
        assert not list(Path.cwd().rglob("*.tmp*"))
    raise AssertionError(f"20 MB do not suffice: {error}")


def told(path: Path) -> dict[str, Any]:
    return {name: value for name, value in read_json(path).items() if name not in VOLATILE}


@pytest.mark.parametrize("stage", ["evaluate", "segment", "severe"])
def test_a_full_disk_ends_a_stage_that_then_goes_on(
    stage: str,
    on_it: SmallDisk,
    embedded_params: Params,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a traceback, a process that a full disk ends by a signal (SIGBUS, where rows are
    written through mapped memory), half of a result that counts as done, temporary files that stay,
    and rows that were lost on the way: what comes out in the end is what comes out at once."""
    layout = RunLayout(embedded_params.name, RUN)
    (manifest,) = (layout.result(n) for n, each in BENCHMARKS.items() if each.stage == stage)
    command = [stage, "--run", RUN]
    failures = filled_until_done(on_it, command, manifest, lambda: capsys.readouterr().err)
    assert failures >= 2
    interrupted = told(manifest)
    on_it.filler.unlink()
    manifest.unlink()
    for folder in (layout.probing, layout.work("severe")):
        shutil.rmtree(folder, ignore_errors=True)
    layout.features.unlink(missing_ok=True)
    assert cli.main(command) == 0
    assert {k: v for k, v in told(manifest).items() if k != "outputs"} == {
        k: v for k, v in interrupted.items() if k != "outputs"
    }


def test_a_full_disk_ends_the_report(
    on_it: SmallDisk, embedded_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches half a page, and a table of the scores without it, that count as done."""
    for stage in ("evaluate", "segment", "severe"):
        assert cli.main([stage, "--run", RUN]) == 0
    capsys.readouterr()
    report = ExperimentLayout(embedded_params.name).report
    assert filled_until_done(on_it, ["report"], report, lambda: capsys.readouterr().err)


def test_a_full_disk_ends_embed(
    on_it: SmallDisk, embedded_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches half a file of features, and a signal where they are put in order on the disk."""
    weights = RunLayout(embedded_params.name, RUN).weights
    clips = DataLayout(embedded_params.data.name).clips(0)
    found = Path("features.parquet")
    command = ["embed", str(weights), str(clips), "-o", str(found)]
    assert filled_until_done(on_it, command, found, lambda: capsys.readouterr().err)
