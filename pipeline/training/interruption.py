"""Being asked to stop: finish the step, save, and leave with a status that means "go on later".

Slurm sends SIGTERM before it takes a node away and SIGUSR1 (by `--signal`) before a time limit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Self, TypeVar

Item = TypeVar("Item")

GO_ON_LATER = 75  # exit status, EX_TEMPFAIL of sysexits.h: run the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class GoOnLater(Exception):  # noqa: N818 (nothing went wrong)
    """Training stopped because a signal asked for it; everything is saved."""


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
