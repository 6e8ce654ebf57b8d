"""A chain that was interrupted, or whose settings have changed, ends as one from the beginning."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout, ExperimentLayout

from .workspace import Workspace

pytestmark = pytest.mark.system

DATA = DataLayout("synthetic_tiny")
TINY_RESULTS = ExperimentLayout("tiny")


def hashes(folder: Path, run: str) -> dict[str, str]:
    """Hash every result of the data set and of a run that is there and is to be reproducible."""
    shards = sorted((folder / DATA.shards).glob("*.tar"))
    assert len(shards) > 3
    results = TINY_RESULTS.run(run)
    files = [*shards, folder / results.weights, folder / results.metrics]
    files += [path for path in (folder / results.predictions,) if path.exists()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_going_on_equals_beginning_anew(finished: Workspace, tmp_path: Path) -> None:
    """Catches a stage that keeps what it made under other settings, and says that it is done."""
    one_run = ("~runs.pixel", "~runs.random")
    overrides = (*one_run, "data.decode.crf=30", "trainer.seed=3", "evaluation.knn.k=3")
    changed = finished.copy(tmp_path / "changed")
    changed.compose(*overrides)
    changed.snakemake("evaluated")
    anew = finished.copy(tmp_path / "anew")
    for made in ("data", "results", "downloads", ".snakemake"):
        shutil.rmtree(anew.folder / made)
    anew.compose(*overrides)
    anew.snakemake("evaluated")
    found = hashes(changed.folder, "sigma_mlp")
    assert TINY_RESULTS.run("sigma_mlp").predictions.as_posix() in found
    assert found == hashes(anew.folder, "sigma_mlp")
    assert found != hashes(finished.folder, "sigma_mlp")


# Half a minute: on a busy machine what waits for its first checkpoint may come seconds late.
LONGER = ("trainer.epochs=200", "trainer.checkpoint_every=5")
STOPPED = TINY_RESULTS.run("pixel").pretrained.as_posix()  # the run that is stopped


@pytest.fixture(scope="module")
def uninterrupted(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of what LONGER gives in one go."""
    whole = finished.copy(tmp_path_factory.mktemp("uninterrupted") / "whole")
    shutil.rmtree(whole.folder / TINY_RESULTS.folder)
    whole.compose(*LONGER)
    whole.snakemake(STOPPED)
    return hashes(whole.folder, "pixel")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_goes_on(
    finished: Workspace, uninterrupted: dict[str, str], tmp_path: Path, kind: signal.Signals
) -> None:
    """Catches a lock, a half-written file or a lost checkpoint after Ctrl-C or a kill.

    Ctrl-C goes to all; the others to Snakemake alone, as from a service manager: its jobs save and
    end, too, and that is no failure. Also catches jobs that take on what is composed meanwhile.
    """
    stopped = finished.copy(tmp_path / "stopped")
    shutil.rmtree(stopped.folder / TINY_RESULTS.folder)
    stopped.compose(*LONGER)
    process = stopped.start("snakemake", "--cores", "2", STOPPED)
    try:
        stopped.wait_for(f"{TINY_RESULTS.run('pixel').checkpoints}/step-*.pt", process)
        os.killpg(process.pid, signal.SIGSTOP)  # composing takes as long as training
        stopped.compose("name=another", "trainer.seed=7")
    finally:
        os.killpg(process.pid, signal.SIGCONT)
        if kind is signal.SIGINT:
            os.killpg(process.pid, kind)
        else:
            process.send_signal(kind)
        said = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (stopped.folder / TINY_RESULTS.run("pixel").pretrained).exists()
    if kind is not signal.SIGINT:
        assert "stopped: pretrain pixel, SIGTERM: after step" in said
    if kind is signal.SIGTERM:
        assert "returned non-zero exit status" not in said
        assert "stopped, not failed: run the same command again and it goes on" in said

    assert not (stopped.folder / ExperimentLayout("another").folder).exists()
    stopped.compose(*LONGER)
    stopped.run(sys.executable, "workflow/free_lock.py")
    assert "going on after step" in stopped.snakemake(STOPPED).stdout
    assert hashes(stopped.folder, "pixel") == uninterrupted
