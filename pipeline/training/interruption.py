"""Being asked to stop: finish the step, save, and leave with a status that means "go on later".

Slurm sends SIGTERM before it takes a node away and SIGUSR1 (by `--signal`) before a time limit.
It starts a job again that was pre-empted, but one that ends by itself within the time of grace
counts as failed. So within Slurm a process that SIGTERM came to waits to be killed, once all is
saved; and one that SIGUSR1 came to asks Slurm to start the job again, and waits too. Where the
wait is in vain, and outside of Slurm, it exits with status 75.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn, Self, TypeVar

Item = TypeVar("Item")

GO_ON_LATER = 75  # exit status, EX_TEMPFAIL of sysexits.h: run the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 3600.0  # seconds in Slurm until the kill; longer than most times of grace
NO_ANSWER = 60.0  # seconds after which scontrol is given up


class GoOnLater(Exception):  # noqa: N818 (nothing went wrong)
    """Training stopped because the signal of this name asked for it; everything is saved."""

    def __init__(self, signal_name: str, message: str) -> None:
        super().__init__(message)
        self.signal_name = signal_name


def leave(stop: GoOnLater, label: str, *, is_first: bool = True) -> NoReturn:
    """End this process as its surroundings want it; `is_first` speaks for all of a run's."""
    if is_first:
        _say(f"stopped: {label}, {stop}\n  remedy: run the same command again and it goes on")
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None and (stop.signal_name == "SIGTERM" or _requeued(job, is_first=is_first)):
        if is_first:
            _say(f"waiting for Slurm to end job {job}")
        _wait_for_the_kill()
    raise SystemExit(GO_ON_LATER)


def _requeued(job: str, *, is_first: bool) -> bool:
    """Ask Slurm to start the job again, which ends it; any other process waits for the first."""
    if not is_first:
        return True
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=NO_ANSWER, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"warning: Slurm was not asked to start job {job} again: {error}")
        return False
    if done.returncode:
        _say(f"warning: Slurm does not start job {job} again: {done.stderr.strip()}")
    return not done.returncode


def _wait_for_the_kill() -> None:
    for number in SIGNALS:  # Slurm repeats them, and the job's end shall be Slurm's doing
        signal.signal(number, signal.SIG_IGN)
    time.sleep(PATIENCE)


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
