"""Being asked to stop: finish the step, save, and leave with a status that means "go on later".

Slurm sends SIGTERM before it takes a node away, and (by `--signal`) before a time limit. It starts
a job again that was pre-empted, but one that reached its limit, or ended by itself within the time
of grace, counts as failed. So within Slurm the first process, once all is saved, asks for the job
to be started again, unless Slurm is ending it already; then all wait to be killed. Where Slurm
refuses, and outside of Slurm, they exit with status 75.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import NoReturn, Self, TypeVar

Item = TypeVar("Item")

EXIT_RESUME_LATER = 75  # exit status, EX_TEMPFAIL of sysexits.h: run the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 3600.0  # seconds in Slurm until the kill; longer than most times of grace
HAS_ITS_NODES = ("RUNNING", "SIGNALING", "STOPPED")  # a job's states, unless Slurm is ending it
NO_ANSWER = 60.0  # seconds after which one of Slurm's commands is given up


class ResumeLater(Exception):  # noqa: N818 (nothing went wrong)
    """Training stopped because the signal of this name asked for it; everything is saved."""

    def __init__(self, signal_name: str, message: str) -> None:
        super().__init__(message)
        self.signal_name = signal_name


def exit_or_requeue(stop: ResumeLater, label: str, *, is_first: bool = True) -> NoReturn:
    """End this process as its surroundings want it; `is_first` speaks for all of a run's."""
    if is_first:
        _say(f"stopped: {label}, {stop}\n  remedy: run the same command again and it goes on")
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None and (not is_first or _ends_or_starts_again(job)):
        for number in SIGNALS:  # Slurm repeats them, and the job's end shall be Slurm's doing
            signal.signal(number, signal.SIG_IGN)
        if is_first:
            _say(f"waiting for Slurm to end job {job}")
        time.sleep(PATIENCE)
    raise SystemExit(EXIT_RESUME_LATER)


def _ends_or_starts_again(job: str) -> bool:
    """Have Slurm start the job again; false where it refuses, so that nobody would end this one.

    A job that is being cancelled is not asked for again: its state is COMPLETING. One that
    is being pre-empted is running until its time of grace is over, and then ends at once.
    """
    state, why = _ask("squeue", "--noheader", "--format=%T", f"--jobs={job}")
    if state not in HAS_ITS_NODES:
        _say(f"Slurm says of job {job}: {why or state or 'unknown'}")
        return True
    _, why = _ask("scontrol", "requeue", job)
    if why:
        _say(f"warning: Slurm does not start job {job} again: {why}")
    return not why


def _ask(*command: str) -> tuple[str, str]:
    """Run one of Slurm's commands; return its answer, and why there is none."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=NO_ANSWER, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    failure = done.stderr.strip() or f"{command[0]} ended with status {done.returncode}"
    return done.stdout.strip(), failure if done.returncode else ""


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class StopRequest:
    """While open, SIGTERM and SIGUSR1 do not kill but are kept in `signal`, by name.

    Outside the main thread, where Python allows no signal handlers, nothing is caught.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, but ask for no further one once a signal came."""
        iterator = iter(items)
        while self.signal is None:
            try:
                item = next(iterator)
            except StopIteration:
                return
            yield item

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
