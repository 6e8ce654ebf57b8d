"""Nothing that a job started outlives it, even where the job is killed and cannot end it.

A job that gets SIGKILL (out of memory, `scancel`, an impatient user) runs no code of its own any
more. So a shell stands beside it and reads a pipe; the pipe ends with the job, however that ended,
and the shell then kills what the last line named. One shell per job, and POSIX alone: Linux could
tell each child to die with its parent (PR_SET_PDEATHSIG), but only by a function that runs between
fork and exec, which costs more than a small video takes to decode.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading

_SHELL = """
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"""


class Watchdog:
    """The shell of one process, and the process groups that it is to kill."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._groups: set[int] = set()
        self._lock = threading.Lock()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what a terminal sends to the job's group does not reach it
        )

    def ended(self, group: int) -> None:
        """Say that a group is gone."""
        with self._lock:
            self._groups.discard(group)
            self._tell()

    def watch(self, group: int) -> None:
        """Kill this process group when the owner is gone."""
        with self._lock:
            self._groups.add(group)
            self._tell()

    def alive(self) -> bool:
        return self.owner == os.getpid() and self._shell.poll() is None

    def _tell(self) -> None:
        assert self._shell.stdin is not None  # noqa: S101 - for the type checker
        line = " ".join(map(str, self._groups)) + "\n"
        # Where somebody killed the shell, the next `started` takes a new one.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._shell.stdin.fileno(), line.encode())  # at once: no half line arrives


_current: Watchdog | None = None
_starting = threading.Lock()


def started(group: int) -> Watchdog:
    """Have a process group killed when this process ends; tell the returned one when it is gone."""
    global _current
    with _starting:
        # A forked process has its parent's; the pipe of that one does not end with it.
        if _current is None or not _current.alive():
            _current = Watchdog()
        current = _current
    current.watch(group)
    return current
