"""The jobs of a workflow on this machine end when the workflow does, however that ends.

Snakemake, told to stop by a signal to it alone, waits for its jobs without a word to them; killed,
it leaves them running. So it passes SIGTERM on, at which a job saves and ends; and each
job asks the kernel to be sent SIGTERM when the Snakemake that started it is no more (Linux;
elsewhere it looks by itself). Jobs that a
scheduler runs elsewhere are not its children: they stay the scheduler's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Mapping, MutableMapping
from types import FrameType

import psutil

VARIABLE = "PIPELINE_WORKFLOW"  # in a local job's environment: Snakemake's process
PR_SET_PDEATHSIG = 1  # of Linux's prctl
PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT})


def pass_signals_on() -> None:
    """From now on tell this Snakemake's jobs when it is told to stop; it then does as before.

    A job that a terminal's Ctrl-C has reached as well heeds the first of both. A thread does it, as
    Python's handlers run in the main thread alone: where the kernel has given the signal to another
    one, a main thread that waits for a lock wakes up only when a job has ended.
    """
    arrived, arriving = os.pipe()
    os.set_blocking(arriving, False)
    signal.set_wakeup_fd(arriving)  # gets the number of every signal that Python handles
    threading.Thread(target=_pass_on, args=(arrived,), name="signals", daemon=True).start()


def _pass_on(arrived: int) -> None:
    while True:
        if not PASSED_ON.isdisjoint(os.read(arrived, 64)):
            for job in _jobs():
                with contextlib.suppress(psutil.Error):
                    job.terminate()


def _jobs() -> list[psutil.Process]:
    """This process's children that are commands of this package."""
    children = []
    for child in psutil.Process().children():
        try:
            if child.cmdline()[1:3] == ["-m", "pipeline"]:
                children.append(child)
        except psutil.Error:  # it has ended
            continue
    return children


def mark(environment: MutableMapping[str, str], *, is_workflow: bool) -> None:
    """Let jobs know this process as their workflow, or that they have none on this machine."""
    environment.pop(VARIABLE, None)
    if is_workflow:
        environment[VARIABLE] = str(os.getpid())


def end_with_workflow(environment: Mapping[str, str]) -> None:
    """Have this process sent SIGTERM when the Snakemake that started it is gone.

    Nothing, where its parent is none: started by hand, by a scheduler, through a container.
    """
    workflow = int(environment.get(VARIABLE, 0))
    if not workflow:
        return
    if workflow == os.getppid():
        prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
        if prctl:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        else:
            watch = threading.Thread(target=_end_after, args=(workflow,), daemon=True)
            watch.start()
    if workflow != os.getppid() and not psutil.pid_exists(workflow):  # gone before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def _end_after(workflow: int) -> None:
    """Look every second whether the parent is still the workflow; where it is not, end."""
    while workflow == os.getppid():
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came, and what was at work had nothing better to do than to stop."""


class Termination:
    """Turns SIGTERM into `Terminated`, so that what stands in `finally` is done; once.

    Nothing comes of a second signal, nor of one after Ctrl-C: it would disturb the clearing up.
    """

    def __init__(self) -> None:
        self.process, self.stopping = os.getpid(), False

    def heed(self) -> None:
        """Answer signals from now on; main thread alone. Ctrl-C stays ignored where it is."""
        signal.signal(signal.SIGTERM, self._terminate)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)

    def ignore(self) -> None:
        """Nothing comes of SIGTERM from now on: the work is over, and what libraries do at exit is
        not to be torn in two."""
        self.stopping = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _terminate(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a forked worker: it has nothing to clear up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self.stopping:
            self.stopping = True
            raise Terminated

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        signal.default_int_handler(number, frame)
