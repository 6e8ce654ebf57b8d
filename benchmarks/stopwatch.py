"""Where the seconds of a step go: functions of the real step, timed in their places."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch


class Stopwatch:
    """Seconds by part. A part that runs inside of another one is not counted to that one, too.

    On an accelerator every beginning and end of a part waits for the device, so that the sum of the
    parts is longer than a step that is left alone.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._parts: list[str] = []  # the running one last, inside of those before it
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside to `name`."""
        self._lap()
        self._parts.append(name)
        try:
            yield
        finally:
            self._lap()
            self._parts.pop()

    @contextlib.contextmanager
    def timing(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """While open, count calls of each `(owner, attribute, part)` to its part."""
        with contextlib.ExitStack() as stack:
            for owner, attribute, name in places:
                stack.callback(_restore, owner, attribute, vars(owner).get(attribute))
                setattr(owner, attribute, self._timed(getattr(owner, attribute), name))
            yield

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*arguments, **named)

        return timed

    def _lap(self) -> None:
        if self.device.type != "cpu":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        self._since = now


def _restore(owner: Any, attribute: str, before: Any) -> None:
    if before is None:
        delattr(owner, attribute)  # it was inherited, or the class's
    else:
        setattr(owner, attribute, before)
