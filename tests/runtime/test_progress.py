"""One line that is rewritten where a terminal is ours, whole lines everywhere else."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.runtime.progress import Progress, duration

STEPS = """
import sys, time
from pathlib import Path
from pipeline.runtime.joblog import copied_to
from pipeline.runtime.progress import Progress
log = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with copied_to(log), Progress("pretrain x", 4, "steps", interval=0, rate=("clips", 8)) as progress:
    for step in range(4):
        progress.fields["loss"] = f"{4 - step:.3f}"
        progress.advance()
        if step == 1:
            print("warning: something", file=sys.stderr)
"""


def on_a_terminal(project: Path, *arguments: str) -> str:
    """Run STEPS with a terminal of 100 columns as its standard error; return all that it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS, *arguments],
        cwd=project,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait(timeout=300) == 0, written
    return written.decode()


def screen(written: str) -> list[str]:
    """What stays on a terminal: lines, with what was erased left out."""
    lines = [""]
    for part in re.split(r"(\r\n|\n|\r|\x1b\[\d*[A-Za-z]|\x1b\[\?\d+[a-z])", written):
        if part in ("\n", "\r\n"):
            lines.append("")
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif part and part[0] not in "\r\x1b":
            lines[-1] += part
    return [line for line in lines if line]


def test_a_terminal_of_our_own_has_one_line(project: Path) -> None:
    """Catches a screen full of progress, or a warning that is drawn over."""
    shown = screen(on_a_terminal(project))
    assert len(shown) == 2, shown
    assert shown[0] == "warning: something"
    assert re.fullmatch(
        r"\[pretrain x\] 4/4 steps, loss 1\.000, [\d,.]+ clips/s, 0:00 left", shown[1]
    )


def test_a_terminal_shared_by_jobs_has_whole_lines(project: Path, tmp_path: Path) -> None:
    """Catches a job of the workflow that redraws another's line, or escape codes in its log."""
    log = tmp_path / "job.log"
    written = on_a_terminal(project, str(log))
    assert "\x1b" not in written
    shown = screen(written)
    assert "warning: something" in shown
    assert sum("4/4 steps" in line for line in shown) >= 1
    assert sum("1/4 steps" in line for line in shown) == 1
    assert "\x1b" not in log.read_text()
    assert "[pretrain x] 2/4 steps, loss 3.000" in log.read_text()


@pytest.fixture
def pass_time(own_clock: Callable[[str], Callable[[float], None]]) -> Callable[[float], None]:
    return own_clock("pipeline.runtime.progress")


def test_plain_lines_where_there_is_no_terminal(pass_time: Callable[[float], None]) -> None:
    """Catches a line for every step, and a speed or a time left that are made up."""
    stream = io.StringIO()
    with Progress("x", 100, "steps", done=50, interval=5, stream=stream) as progress:
        for _ in range(10):
            pass_time(2)
            progress.advance()
    said = [
        "[x] 53/100 steps, 0.5 steps/s, 1:34 left",
        "[x] 56/100 steps, 0.5 steps/s, 1:28 left",
        "[x] 59/100 steps, 0.5 steps/s, 1:22 left",
        "[x] 60/100 steps, 0.5 steps/s, 1:20 left",
    ]
    assert stream.getvalue().splitlines() == said


def test_what_was_done_before_is_not_taken_for_speed(pass_time: Callable[[float], None]) -> None:
    """Catches minutes that are promised where hours are left, after an interrupted call."""
    stream = io.StringIO()
    with Progress("x", 100, "videos", interval=1, stream=stream) as progress:
        progress.skip(80)
        pass_time(1)
        progress.skip(10, lost=3)
        pass_time(1)
        progress.advance()
    first, *_, last = stream.getvalue().splitlines()
    assert first == "[x] 90/100 videos, lost 3, 0.0 videos/s, ? left"
    assert last == "[x] 91/100 videos, lost 3, 0.5 videos/s, 0:18 left"


def test_durations() -> None:
    """Catches hours that are lost, and a time that is negative."""
    assert [duration(seconds) for seconds in (-1, 59.6, 3600, 360_000)] == [
        "0:00",
        "1:00",
        "1:00:00",
        "100:00:00",
    ]
