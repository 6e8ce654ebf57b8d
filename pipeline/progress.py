"""Progress that reads well in a terminal, in a log file, and beside other jobs.

Several jobs of the workflow share one terminal, so each prints whole lines, a few seconds
apart, that begin with the job's name; nobody redraws another's line.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO


def duration(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class Progress:
    """Count towards `total`, and say so every `interval` seconds.

    >>> with Progress("decode 3", total=500, unit="videos") as progress:
    ...     progress.advance(1, lost=2)
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        interval: float = 5.0,
        rate: tuple[str, int] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """`rate` names another unit for the speed, and how many of it one `unit` is."""
        self.label, self.total, self.unit = label, total, unit
        self.rate = rate or (unit, 1)
        self.done = self.start = done
        self.interval = interval
        self.stream = stream or sys.stderr
        self.began = self.said = time.monotonic()
        self.fields: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and time.monotonic() - self.began >= self.interval:
            self.say()

    def advance(self, count: int = 1, **fields: object) -> None:
        """Add `count` done; `fields` are shown as `name value`, the last value of each."""
        self.done += count
        self.fields.update(fields)
        if time.monotonic() - self.said >= self.interval:
            self.say()

    def say(self) -> None:
        """Print one line now."""
        now = time.monotonic()
        self.said = now
        rate = (self.done - self.start) / max(now - self.began, 1e-9)
        left = duration((self.total - self.done) / rate) if rate > 0 else "?"
        shown = "".join(f", {name} {value}" for name, value in self.fields.items())
        line = f"[{self.label}] {self.done:,}/{self.total:,} {self.unit}{shown}"
        unit, each = self.rate
        print(f"{line}, {rate * each:,.1f} {unit}/s, {left} left", file=self.stream, flush=True)
