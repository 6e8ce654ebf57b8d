"""How the state of the jobs is shown: a board that is redrawn, or lines that stay."""

from __future__ import annotations

import os
import time
from typing import Protocol, TextIO

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from pipeline.planning.board.jobs import Job, JobEvents
from pipeline.planning.board.table import board
from pipeline.runtime.progress import duration

# Columns and lines: those taken where a terminal does not know (it says 0), and the fewest.
USUAL, SMALLEST = (80, 24), (20, 8)


def terminal_size(terminal: TextIO) -> ConsoleDimensions:
    """Return the columns and lines of a terminal as it is now."""
    sizes = zip(os.get_terminal_size(terminal.fileno()), USUAL, SMALLEST, strict=True)
    return ConsoleDimensions(*(max(now or usual, least) for now, usual, least in sizes))


class View(Protocol):
    """Shows the jobs of a workflow again and again until it is closed."""

    def refresh(self, events: JobEvents) -> None: ...

    def close(self, events: JobEvents, *, errors_are_told: bool) -> None: ...


class BoardView:
    """A board on a terminal, drawn again in its place; the last state stays."""

    def __init__(self, terminal: TextIO, title: str, footer: str) -> None:
        self.terminal, self.title, self.footer = terminal, title, footer
        self.console = Console(file=terminal, force_terminal=True)
        self.live: Live | None = None

    def refresh(self, events: JobEvents, *, errors_are_told: bool = False) -> None:
        size = terminal_size(self.terminal)
        if self.live and size.width != self.console.size.width:
            # A terminal breaks the lines that stand there anew: what is to be redrawn is unknown.
            self.live.stop()
            self.live = None
            self.console.clear()
        self.console.size = size
        title = f"{self.title}  {duration(time.time() - events.began)}"
        shown = board(events, title, self.footer, size, errors_are_told=errors_are_told)
        if self.live is None:
            self.live = Live(
                console=self.console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()
        self.live.update(shown, refresh=True)

    def close(self, events: JobEvents, *, errors_are_told: bool) -> None:
        try:
            self.refresh(events, errors_are_told=errors_are_told)
        finally:
            if self.live:
                self.live.stop()


class LineView:
    """Whole lines: one when a job has ended, and one a minute of those that run."""

    def __init__(self, stream: TextIO, title: str, footer: str, *, interval: float = 60.0) -> None:
        self.stream, self.title, self.footer = stream, title, footer
        self.interval = interval
        self.last_progress = time.monotonic()
        self.told: set[Job] = set()
        self.has_begun = False

    def refresh(self, events: JobEvents) -> None:
        with events.changing:
            if not self.has_begun:
                self.has_begun = True
                self._print(f"{self.title}: {events.total} jobs; {self.footer}")
            jobs = [job for stage in events.stages.values() for job in stage.jobs]
            ended = [job for job in jobs if not job.is_running and job not in self.told]
            for job in sorted(ended, key=lambda job: job.ended or 0.0):
                self.told.add(job)
                self._print(self._of_end(job, events.total))
            if time.monotonic() - self.last_progress >= self.interval:
                self.last_progress = time.monotonic()
                if running := [_of_running(job) for job in jobs if job.is_running]:
                    self._print(f"{_clock()} running: {'; '.join(running)}")

    def close(self, events: JobEvents, *, errors_are_told: bool) -> None:  # noqa: ARG002 - in a line
        self.refresh(events)

    def _of_end(self, job: Job, total: int) -> str:
        if not job.failed:
            number = sum(not job.failed for job in self.told)
            return f"{_clock()} [{number}/{total}] {job.name}: done in {duration(job.seconds)}"
        reason = job.message.splitlines()[:1] or ["failed"]
        log = f" (log: {job.log})" if job.log else ""
        return f"{_clock()} {job.name}: {reason[0]}{log}"

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


class NoView:
    """Shows nothing, for `--quiet`: what failed is told at the end."""

    def refresh(self, events: JobEvents) -> None:
        """Show nothing."""

    def close(self, events: JobEvents, *, errors_are_told: bool) -> None:
        """Show nothing."""


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _of_running(job: Job) -> str:
    """Return a running job in a few words."""
    if job.progress is None:
        return f"{job.name} for {duration(job.seconds)}"
    line = job.progress
    fields = [field for field in line.fields if field.startswith(("loss", "k-NN"))]
    parts = [f"{line.done:,}/{line.total:,} {line.unit}", *fields, f"{line.left} left"]
    return f"{job.name} {', '.join(parts)}"
