"""Keeps what Snakemake and all jobs print off the terminal, in one file, and shows a view instead.

Their standard output and error are this process's: while the view is open, both lead into the file.
So nothing that a job or a library prints can disturb the board, and all of it can be read.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TextIO

from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.planning.board.jobs import JobEvents
from pipeline.planning.board.views import BoardView, LineView, NoView, View, terminal_size

VERBOSE = "VERBOSE"  # in the environment, as from `make run VERBOSE=1`: as if there were no display
INTERVAL = 0.5  # seconds between two looks at the jobs
OUTPUT, ERRORS = 1, 2  # file descriptors
# Snakemake's preparations, which nobody waits for.
PREPARING = (
    *("Building DAG of jobs", "Using shell: ", "Conda environments: ", "Singularity containers: "),
    *("Group jobs: ", "Assuming unrestricted shared filesystem"),
)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether a display is to be had: not where `VERBOSE` is set, nor in a part of DVC's chain."""
    return environment.get(VERBOSE, "0") in ("", "0") and "DVC_STAGE" not in environment


class Display:
    """The display of one workflow.

    `attach` it to Snakemake's logger before the jobs are planned, `begin` it with the first job,
    `end` it with the last one.
    """

    def __init__(self, name: str, rules: Collection[str], output: Path, *, quiet: bool) -> None:
        """`rules` are those of stages; `output` is the file for what is not shown."""
        self.name, self.output, self.quiet = name, output, quiet
        self.events = JobEvents(rules)
        self.streams: tuple[TextIO, TextIO] | None = None  # the real output and error
        self.has_ended = False
        self.ending = threading.Event()

    def attach(self, logger: logging.Logger) -> None:
        """Follow the logger's events, and keep its own lines off the terminal."""
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self._is_shown)
                handler.nocolor = True  # type: ignore[attr-defined] # its lines are for a file
        logger.addHandler(self.events)

    def _is_shown(self, record: logging.LogRecord) -> bool:
        if self.streams:  # it goes to the file
            return True
        message = record.getMessage()
        if self.has_ended:
            return record.levelno >= logging.ERROR and "At least one job did not" not in message
        event = getattr(record, "event", None)
        if event in (LogEvent.RUN_INFO, LogEvent.RESOURCES_INFO):
            return False
        return record.levelno >= logging.WARNING or not message.startswith(PREPARING)

    def begin(self) -> None:
        """Redirect what is printed, and show the jobs from now on."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        encoding = sys.stderr.encoding
        output, errors = (
            os.fdopen(os.dup(number), "w", encoding=encoding, errors="replace")
            for number in (OUTPUT, ERRORS)
        )
        with self.output.open("wb") as file:
            os.dup2(file.fileno(), OUTPUT)
            os.dup2(file.fileno(), ERRORS)
        self.streams = output, errors
        atexit.register(self.end)
        self.view = self._view(errors)
        self.thread = threading.Thread(target=self._show, name="board", daemon=True)
        self.thread.start()

    def _view(self, errors: TextIO) -> View:
        footer = f"what jobs print: {self.output}"
        if self.quiet:
            return NoView()
        if errors.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
            # For jobs that print tables, such as the report's.
            os.environ["COLUMNS"] = str(terminal_size(errors).width)
            return BoardView(errors, self.name, footer)
        return LineView(errors, self.name, footer)

    def _show(self) -> None:
        while not self.ending.wait(INTERVAL):
            self.events.read_logs()
            self.view.refresh(self.events)

    def end(self, *, errors_are_told: bool = False) -> None:
        """Close the view; standard output and error are again what they were.

        `errors_are_told`: by the caller, afterwards and in full; the board then leaves them out.
        """
        if self.streams is None:
            return
        self.ending.set()
        self.thread.join()
        output, errors = self.streams
        with contextlib.suppress(OSError):  # a terminal that was closed
            self.view.close(self.events, errors_are_told=errors_are_told)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(output.fileno(), OUTPUT)
        os.dup2(errors.fileno(), ERRORS)
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.close()
        self.streams, self.has_ended = None, True
