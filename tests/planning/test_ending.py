"""Jobs end with the workflow that started them: real processes, with a stand-in for Snakemake."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.planning import ending

# Snakemake's part: mark the environment, start a job by a shell, wait for it.
WORKFLOW = """\
import os, signal, subprocess, sys
from pipeline.planning import ending
ending.mark(os.environ, is_workflow=True)
ending.pass_signals_on()
job = subprocess.Popen(["bash", "-c", "set -euo pipefail; " + sys.argv[1]], cwd=sys.argv[2])
if "deaf" in sys.argv:  # the kernel gives SIGTERM to another thread than the main one
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
raise SystemExit(job.wait() and 1)
"""
# A job's part, which `python -m pipeline` finds in the folder that it is started in.
JOB = """\
import os, pathlib, signal, sys, time
sys.path.append(os.environ["PROJECT"])
del sys.modules["pipeline"]; sys.path.pop(0)
from pipeline.planning import ending
if "no-prctl" in sys.argv:  # as on macOS
    ending.ctypes.CDLL = lambda _: object()
ending.Termination().heed()
ending.end_with_workflow(os.environ)
try:
    pathlib.Path("starting").write_text(str(os.getpid()))
    pathlib.Path("starting").rename("started")
    for _ in range(600):  # in short parts: no handler runs during one that a signal just preceded
        time.sleep(0.1)
except ending.Terminated:
    pathlib.Path("saved").touch()
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
"""


@pytest.fixture
def workflow(project: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a workflow with one job in `tmp_path`; wait until the job is at work."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__main__.py").write_text(JOB)
    (tmp_path / "pipeline" / "__init__.py").touch()
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PROJECT": str(project), "PYTHONPATH": str(project)}
        job = f"exec {sys.executable} -m pipeline {' '.join(options)}"
        process = subprocess.Popen(
            [sys.executable, "-c", WORKFLOW, job, str(tmp_path), *options],
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        wait_for(lambda: (tmp_path / "started").exists() and process.poll() is None)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_jobs_end_with_a_workflow_that_alone_is_told_to(
    workflow: Callable[[], subprocess.Popen[bytes]], tmp_path: Path, kind: signal.Signals
) -> None:
    """Catches jobs that train on for ever when a service manager ends Snakemake, or kills it."""
    process = workflow()
    job = int((tmp_path / "started").read_text())
    process.send_signal(kind)
    process.wait(timeout=50)
    wait_for(lambda: has_ended(job))
    assert (tmp_path / "saved").exists()


def test_a_job_ends_with_its_workflow_where_the_kernel_does_not_see_to_it(
    workflow: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Catches a job that fails as it starts, or trains on for ever, on macOS: it has no prctl."""
    process = workflow("no-prctl")
    job = int((tmp_path / "started").read_text())
    process.kill()
    process.wait(timeout=50)
    wait_for(lambda: has_ended(job))
    assert (tmp_path / "saved").exists()


def test_jobs_end_though_the_main_thread_hears_nothing(
    workflow: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Catches a job that trains to its end, since Snakemake's main thread waits for that in a lock
    and another thread got the signal."""
    process = workflow("deaf")
    job = int((tmp_path / "started").read_text())
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: has_ended(job))
    assert (tmp_path / "saved").exists()
    process.wait(timeout=50)


def test_a_job_at_its_end_is_left_in_peace(project: Path) -> None:
    """Catches tracebacks of what libraries do at exit, where SIGTERM comes when all is done."""
    code = (
        (project / "pipeline" / "__main__.py")
        .read_text()
        .replace("main(termination=termination)", "0")
    )
    late = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
    done = subprocess.run(
        [sys.executable, "-c", late + code],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_interrupts_once(
    workflow: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Catches a job that is disturbed while it clears up, since Ctrl-C has reached it already."""
    process = workflow()
    job = int((tmp_path / "started").read_text())
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=50)
    wait_for(lambda: has_ended(job))
    assert (tmp_path / "interrupted").exists()
    assert not (tmp_path / "saved").exists()


def test_a_job_of_a_scheduler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a job that ends since its environment names a process of another machine."""
    environment = {ending.VARIABLE: "1"}
    ending.mark(environment, is_workflow=False)
    assert environment == {}
    sent: list[object] = []
    monkeypatch.setattr(os, "kill", lambda _, number: number and sent.append(number))
    ending.end_with_workflow(environment)
    ending.end_with_workflow({ending.VARIABLE: "1"})  # alive, and not our parent
    assert sent == []
