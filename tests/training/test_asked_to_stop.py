"""A training that is asked to stop from outside: what it saves, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.interruption import EXIT_RESUME_LATER
from pipeline.training import pretrain_stage
from tests.training.interrupted import move, outcome

Compose = Callable[..., Params]
LONG = ("trainer.epochs=60", "trainer.checkpoint_every=7", "trainer.log_every=3")  # 90 steps


def start(project: Path, run: str) -> subprocess.Popen[str]:
    """Start `python -m pipeline pretrain` in the working directory, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "pretrain", "--run", run],
        env={**os.environ, "PYTHONPATH": str(project)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_lines(process: subprocess.Popen[str], log: Path, count: int) -> bool:
    """Wait until `log` has this many lines; False where the process ended before."""
    while process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return True
        time.sleep(0.002)
    return False


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """A list of processes that are dead when the test ends."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.system
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 0)])
def test_asked_to_stop_it_saves_and_goes_on_later(
    compose: Compose,
    project: Path,
    processes: list[subprocess.Popen[str]],
    number: signal.Signals,
    workers: int,
) -> None:
    """Catches lost steps, a wrong status, or loader workers that die first and take the run along.

    The signal goes to the whole group, as Slurm sends it.
    """
    params = compose(*LONG, "trainer.checkpoint_every=1000", f"trainer.workers={workers}")
    layout = RunLayout(params.name, "pixel")
    process = start(project, "pixel")
    processes.append(process)
    assert wait_for_lines(process, layout.metrics, 5)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == EXIT_RESUME_LATER, said
    assert "Traceback" not in said
    assert number.name in said
    assert not layout.pretrained.exists()
    assert len(list(layout.checkpoints.glob("*.pt"))) == 1

    pretrain_stage.run(params, "pixel")
    resumed = outcome(move(layout, "resumed"))
    pretrain_stage.run(params, "pixel")
    assert outcome(layout) == resumed
