"""Progress that reads well in a terminal, in a log file, and beside other jobs.

A process that has a terminal to itself rewrites one line in place. Several jobs of the workflow
share one terminal, so each prints whole lines, a few seconds apart, that begin with the job's name;
nobody redraws another's line. So it is, too, where there is no terminal.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

REDRAWN = 0.5  # seconds between two states of a line that is rewritten in place
# A line as `Progress.say` writes it.
LINE = re.compile(
    r"^\[(?P<label>[^\]\n]+)\] (?P<done>[\d,]+)/(?P<total>[\d,]+) (?P<unit>\w+)(?P<fields>.*?)"
    r", (?P<rate>[\d,.]+) (?P<rate_unit>\w+)/s, (?P<left>[\d:?]+) left$",
    re.MULTILINE,
)


def binary_bytes(number: float) -> str:
    """Write such as `4.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def duration(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


@dataclass(frozen=True)
class ProgressLine:
    """What a line of `Progress` says, read again from a job's log."""

    done: int
    total: int
    unit: str
    fields: tuple[str, ...]  # such as `loss 3.210`
    rate: float
    rate_unit: str  # what `rate` counts per second
    left: str  # time, as `duration` writes it; "?" where it is not known

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 1.0


def last_progress(text: str) -> ProgressLine | None:
    """Return the last line of progress in a log's text; None where there is none."""
    lines = list(LINE.finditer(text))
    if not lines:
        return None
    line = lines[-1]
    done, total, rate = (line[name].replace(",", "") for name in ("done", "total", "rate"))
    fields = tuple(field for field in line["fields"].split(", ") if field)
    numbers = int(done), int(total), line["unit"], fields, float(rate)
    return ProgressLine(*numbers, line["rate_unit"], line["left"])


class Progress:
    """Count towards `total`, and say so every `interval` seconds (on a terminal more often).

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
        self.stream = stream or sys.stderr
        self.live = _live(self.stream)
        self.interval = min(interval, REDRAWN) if self.live else interval
        self.began = self.last_shown = time.monotonic()
        self.fields: dict[str, object] = {}

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and time.monotonic() - self.began >= self.interval:
                self.say()
        finally:
            if self.live:
                self.live.stop()

    def advance(self, count: int = 1, **fields: object) -> None:
        """Add `count` done; `fields` are shown as `name value`, the last value of each."""
        self.done += count
        self.fields.update(fields)
        if time.monotonic() - self.last_shown >= self.interval:
            self.say()

    def skip(self, count: int = 1, **fields: object) -> None:
        """Add `count` that were done before: they say nothing of how fast the others are."""
        self.start += count
        self.advance(count, **fields)

    def say(self) -> None:
        """Print one line now."""
        now = time.monotonic()
        self.last_shown = now
        rate = (self.done - self.start) / max(now - self.began, 1e-9)
        left = duration((self.total - self.done) / rate) if rate > 0 else "?"
        shown = "".join(f", {name} {value}" for name, value in self.fields.items())
        line = f"[{self.label}] {self.done:,}/{self.total:,} {self.unit}{shown}"
        unit, each = self.rate
        line = f"{line}, {rate * each:,.1f} {unit}/s, {left} left"
        if self.live:
            self.live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            print(line, file=self.stream, flush=True)


def _live(stream: TextIO) -> Live | None:
    """A line that is rewritten in place; None where `stream` is no terminal, or not ours alone.

    While it is open, whatever else is written to standard error appears above it.
    """
    if not stream.isatty() or getattr(stream, "is_shared", False):
        return None
    return Live(console=Console(file=stream), auto_refresh=False)
