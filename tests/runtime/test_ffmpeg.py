"""A process that hangs, floods or eats memory is ended, whatever it is."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.runtime import ffmpeg


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(
    code: str, *, time_limit_s: float = 300, memory_limit_mib: int = 4096
) -> tuple[int, list[str]]:
    lines: list[str] = []
    status = ffmpeg.run(
        python(code), lines.append, time_limit_s=time_limit_s, memory_limit_mib=memory_limit_mib
    )
    return status, lines


def test_lines_and_status_come_back() -> None:
    """Would catch a lost last line, half lines, and a status that is not the process's."""
    code = "import sys; sys.stderr.write('a\\n' + 'b' * 200_000 + '\\nlast'); sys.exit(3)"
    status, lines = run(code)
    assert status == 3
    assert lines == ["a", "b" * 200_000, "last"]


def test_a_process_and_its_children_are_gone_after_the_time_limit(tmp_path: Path) -> None:
    """Would catch a hang for ever, and children that survive their parent."""
    note = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)"
    )
    began = time.monotonic()
    with pytest.raises(ffmpeg.TimedOut):
        run(code, time_limit_s=5)
    assert time.monotonic() - began < 300
    parent, child = map(int, note.read_text().split())
    assert not psutil.pid_exists(parent)
    deadline = time.monotonic() + 120
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


def test_a_process_that_floods_its_log_is_ended_in_time() -> None:
    """Would catch a time limit that only counts while nothing is said."""
    with pytest.raises(ffmpeg.TimedOut):
        ffmpeg.run(
            python("import sys\nwhile True: sys.stderr.write('x' * 1000 + '\\n')"),
            lambda line: None,
            time_limit_s=1,
            memory_limit_mib=4096,
        )


def test_limits_of_time_without_what_linux_alone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a command that cannot be waited for on macOS, or whose time limit is lost there."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.delattr(resource, "prlimit", raising=False)
    assert run("import os; os.close(2); import time; time.sleep(0.3); raise SystemExit(3)")[0] == 3
    with pytest.raises(ffmpeg.TimedOut):  # it says no more: what is waited for is its end
        run("import os; os.close(2); import time; time.sleep(600)", time_limit_s=3)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
def test_memory_beyond_the_limit_is_refused() -> None:
    """Would catch a limit that is not in force in the process."""
    code = "import time; time.sleep(0.5); x = bytearray(800 * 2**20)"
    assert run(code, memory_limit_mib=2048)[0] == 0
    status, lines = run(code, memory_limit_mib=512)
    assert status == 1
    assert "MemoryError" in lines[-1]


def test_the_packaged_one_is_run_unless_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch clips that depend on what a machine has on PATH, and a wish that is not heard."""
    other = tmp_path / "ffmpeg"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        ffmpeg.executable.cache_clear()
        assert "imageio_ffmpeg" in ffmpeg.executable()
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(other))
        ffmpeg.executable.cache_clear()
        assert ffmpeg.executable() == str(other)
    finally:
        ffmpeg.executable.cache_clear()


def test_what_runs_is_gone_when_the_job_is_killed() -> None:
    """Would catch an ffmpeg that goes on for hours after its job ran out of memory.

    The job is killed while its second command runs: a watchdog that remembers the first would
    kill whatever has got its number since.
    """
    code = (
        "from pipeline.runtime import ffmpeg\n"
        "limits = {'time_limit_s': 60, 'memory_limit_mib': 4096}\n"
        # One that says nothing: a word on standard error, which nobody reads any more, ends it.
        "command = [ffmpeg.executable(), '-v', 'quiet', '-f', 'lavfi', '-i', 'testsrc']\n"
        "ffmpeg.run([*command, '-t', '1', '-f', 'null', '-'], lambda line: None, **limits)\n"
        "print('first', flush=True)\n"
        "ffmpeg.run([*command, '-f', 'null', '-'], lambda line: None, **limits)\n"
    )
    started: list[psutil.Process] = []
    job = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "first\n"
        deadline = time.monotonic() + 120
        while not any("testsrc" in each.cmdline() for each in started):
            assert time.monotonic() < deadline, "nothing was started"
            started = psutil.Process(job.pid).children(recursive=True)
        time.sleep(0.3)  # until the watchdog has its number: a kill within that moment is not met
        job.kill()
        job.wait()
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive, [each.cmdline() for each in alive]
    finally:
        job.kill()
        job.communicate()
        for process in filter(psutil.Process.is_running, started):
            process.kill()
