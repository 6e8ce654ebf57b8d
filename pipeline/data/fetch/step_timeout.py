"""Calls of libraries that may never return: each in a thread, which is left to itself then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class StepTimeout:
    """How long the next step of a call may take; the call itself says when it begins one."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.given_up = False

    def next(self, seconds: float) -> None:
        """Begin a step that may take so long.

        Raises:
            TimeoutError: nobody waits for the call any longer.
        """
        if self.given_up:
            raise TimeoutError("given up")
        self.deadline = time.monotonic() + seconds


def call_with_step_timeout(call: Callable[[StepTimeout], None], seconds: float) -> None:
    """Call `call(timeout)`, whose first step may take so many seconds.

    No thread can be stopped from outside. One that is given up ends when it begins another step, or
    with the process.

    Raises:
        TimeoutError: a step took too long.
        BaseException: what the call raised.
    """
    timeout, done = StepTimeout(seconds), threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call(timeout)
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            raised.append(error)
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    while not done.wait(max(0.0, timeout.deadline - time.monotonic())):
        if time.monotonic() >= timeout.deadline:
            timeout.given_up = True
            raise TimeoutError
    if raised:
        raise raised[0]
