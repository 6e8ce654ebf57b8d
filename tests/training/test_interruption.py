"""Signals are noted, not obeyed, and only while training."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.runtime.interruption import (
    EXIT_RESUME_LATER,
    SIGNALS,
    ResumeLater,
    StopRequest,
    exit_or_requeue,
)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_stream_after_the_item_at_hand(number: signal.Signals) -> None:
    """Catches a process that dies in the middle of a step, or that never stops."""
    before = signal.getsignal(number)
    seen = []
    with StopRequest() as stop:
        for item in stop.until(range(10)):
            seen.append(item)
            if item == 3:
                os.kill(os.getpid(), number)
    assert seen == [0, 1, 2, 3]
    assert stop.signal == number.name
    assert signal.getsignal(number) is before


LEAVE = """
import sys
from pipeline.runtime.interruption import ResumeLater, exit_or_requeue
stop = ResumeLater(sys.argv[1], "after step 5, saved")
exit_or_requeue(stop, "pretrain x", is_first=sys.argv[2] == "first")
"""


def leaving(
    project: Path, folder: Path, state: str | None, rank: str = "first", *, status: int = 0
) -> subprocess.Popen[str]:
    """A process that leaves after SIGTERM in a Slurm job of a `state`; None: squeue is not there.

    Its scontrol ends with `status`. The real ones are tried in tests/workflow/test_slurm.py.
    """
    if state is not None:
        answers = {"squeue": f"echo {state}", "scontrol": f"exit {status}"}
        for name, answer in answers.items():
            command = folder / name
            command.write_text(f"#!/bin/sh\necho {name} $* >> {folder}/asked\n{answer}\n")
            command.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-c", LEAVE, "SIGTERM", rank],
        env={**os.environ, "PYTHONPATH": str(project), "PATH": str(folder), "SLURM_JOB_ID": "17"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_it_ignores(process: subprocess.Popen[str], numbers: Sequence[int]) -> None:
    """Ask the kernel, where it is Linux."""
    wanted = sum(1 << (number - 1) for number in numbers)
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(10)
        return
    while True:
        assert process.poll() is None
        (mask,) = re.findall(r"^SigIgn:\s+([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        if int(mask, 16) & wanted == wanted:
            return
        time.sleep(0.02)


def test_outside_of_slurm_it_exits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches another status, words that the workflow does not know, and two who speak."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for is_first in (True, False):
        with pytest.raises(SystemExit) as caught:
            exit_or_requeue(ResumeLater("SIGTERM", "after step 5"), "pretrain x", is_first=is_first)
        assert caught.value.code == EXIT_RESUME_LATER == 75
    assert capsys.readouterr().err.splitlines() == [
        "stopped: pretrain x, after step 5",
        "  remedy: run the same command again and it goes on",
    ]


@pytest.mark.parametrize(
    ("state", "rank", "asked"),
    [
        ("RUNNING", "first", ["squeue --noheader --format=%T --jobs=17", "scontrol requeue 17"]),
        ("RUNNING", "other", []),
        ("COMPLETING", "first", ["squeue --noheader --format=%T --jobs=17"]),  # cancelled, perhaps
        (None, "first", []),  # in a container, perhaps
    ],
)
def test_within_slurm_it_waits_to_be_killed(
    project: Path, tmp_path: Path, state: str | None, rank: str, asked: list[str]
) -> None:
    """Catches an exit within the time of grace, after which Slurm calls a job failed for good; and
    a cancelled job that comes back."""
    process = leaving(project, tmp_path, state, rank)
    try:
        if rank == "first":
            assert process.stderr is not None
            said = ""
            while "waiting for Slurm to end job 17" not in said:
                said = process.stderr.readline()
                assert said, process.wait()
        wait_until_it_ignores(process, SIGNALS)
        for number in SIGNALS:  # what Slurm repeats must not end it either
            process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    record = tmp_path / "asked"
    assert (record.read_text().splitlines() if record.exists() else []) == asked


def test_where_slurm_does_not_start_it_again_it_exits(project: Path, tmp_path: Path) -> None:
    """Catches a job that holds its node in vain until the time limit kills it."""
    process = leaving(project, tmp_path, "RUNNING", status=1)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == EXIT_RESUME_LATER
    assert "stopped: pretrain x" in said
    assert "warning: Slurm does not start job 17 again: scontrol ended with status 1" in said
