"""The jobs of a running workflow, from Snakemake's log events and from the jobs' own logs.

Nothing is sent by a job: its log is there anyway, also where a scheduler runs the job on another
machine, and its last line of progress has all that is shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.runtime import joblog
from pipeline.runtime.progress import ProgressLine, last_progress

TAIL = 16 * 1024  # bytes of a log in which the last line of progress is looked for
# What Snakemake says at Ctrl-C and at SIGTERM.
INTERRUPTED = ("Terminating processes on user request", "Will exit after finishing currently")


@dataclass(eq=False)  # one that is tried again is another job
class Job:
    """A job that has started. Times are seconds since 1970."""

    rule: str
    part: str  # the run, or the chunk's number; "" for a rule of one job
    log: Path | None
    started: float
    ended: float | None = None
    failed: bool = False
    progress: ProgressLine | None = None
    seen: int = 0  # the log's time of change when it was last read
    before: int = 0  # that of the log of an earlier job of this name
    last_words: str = ""

    @property
    def name(self) -> str:
        return f"{self.rule} {self.part}".strip()

    @property
    def is_running(self) -> bool:
        return self.ended is None

    @property
    def seconds(self) -> float:
        return (self.ended or time.time()) - self.started

    @property
    def message(self) -> str:
        """Why it failed, in its own words; empty where it left none."""
        if not self.last_words and self.log and _changed(self.log) != self.before:
            self.last_words = joblog.last_words(self.log)
        return self.last_words

    @property
    def is_stopped(self) -> bool:
        """Whether it ended because it was told to, and will go on: no failure."""
        return self.failed and self.message.startswith(("interrupted: ", "stopped: "))

    def read_log(self) -> None:
        """Take the last line of progress from the log, if that has grown since the last look."""
        if self.log is None or not self.is_running:
            return
        try:
            changed = _changed(self.log)
            if changed in (self.seen, self.before):
                return
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:  # not there yet
            return
        self.seen = changed
        self.progress = last_progress(text) or self.progress


def _changed(path: Path) -> int:
    """When a file was changed, in nanoseconds since 1970; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@dataclass
class Stage:
    """The jobs of one rule: how many there are to do, and those that have started."""

    rule: str
    total: int
    jobs: list[Job] = field(default_factory=list)

    @property
    def running(self) -> list[Job]:
        return [job for job in self.jobs if job.is_running]

    @property
    def failed(self) -> list[Job]:
        return [job for job in self.jobs if job.failed and not job.is_stopped]

    @property
    def stopped(self) -> list[Job]:
        return [job for job in self.jobs if job.is_stopped]

    @property
    def done(self) -> int:
        return sum(not job.is_running and not job.failed for job in self.jobs)

    @property
    def is_done(self) -> bool:
        return self.done == self.total

    @property
    def fraction(self) -> float:
        """The share that is done, with that of the jobs that run; 0 to 1."""
        parts = [job.progress.fraction for job in self.running if job.progress]
        return (self.done + sum(parts)) / self.total if self.total else 1.0

    @property
    def seconds(self) -> float:
        """From the first job's start to the last one's end, or until now."""
        if not self.jobs:
            return 0.0
        ends = [job.ended or time.time() for job in self.jobs]
        return max(ends) - min(job.started for job in self.jobs)


class JobEvents(logging.Handler):
    """A handler of Snakemake's logger that keeps account of the jobs; any thread may ask it.

    `rules` are those of stages: target rules such as `all` do nothing and are not counted.
    """

    def __init__(self, rules: Collection[str]) -> None:
        super().__init__()
        self.rules = rules
        self.stages: dict[str, Stage] = {}
        self.jobs: dict[int, Job] = {}
        self.messages: list[str] = []  # of Snakemake, of what no job has explained
        self.interrupted = False
        self.began = time.time()
        self.changing = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = record.__dict__
        event = fields.get("event")
        with self.changing:
            if event == LogEvent.RUN_INFO:
                self._count(fields["stats"])
            elif event == LogEvent.JOB_INFO:
                self._start(fields)
            elif event == LogEvent.JOB_FINISHED:
                self._end(fields["job_id"], failed=False)
            elif event == LogEvent.JOB_ERROR:
                self._end(fields["jobid"], failed=True)
            elif event != LogEvent.GROUP_ERROR:
                self._note(record)

    def _count(self, stats: dict[str, int]) -> None:
        for rule, count in stats.items():  # in the order of the chain
            if rule in self.rules:
                self.stages.setdefault(rule, Stage(rule, 0)).total = count

    def _start(self, fields: dict[str, Any]) -> None:
        rule, number = fields["rule_name"], fields["jobid"]
        if rule not in self.rules:
            return
        wildcards = fields["wildcards"] or {}
        logs: Sequence[str] = fields["log"]
        job = Job(
            rule,
            wildcards.get("run", wildcards.get("chunk", "")),
            Path(logs[0]) if logs else None,
            time.time(),
        )
        job.before = _changed(job.log) if job.log else 0
        stage = self.stages.setdefault(rule, Stage(rule, 0))
        if earlier := self.jobs.get(number):  # it failed, and is tried again
            stage.jobs.remove(earlier)
        stage.jobs.append(job)
        stage.total = max(stage.total, len(stage.jobs))
        self.jobs[number] = job

    def _end(self, number: int, *, failed: bool) -> None:
        if job := self.jobs.get(number):
            job.ended, job.failed = time.time(), failed

    def _note(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(INTERRUPTED):
            self.interrupted = True
        is_told = not joblog.is_news(record) or text.startswith("Exiting because")
        if record.levelno >= logging.WARNING and not is_told and text not in self.messages:
            self.messages.append(text)

    def read_logs(self) -> None:
        """Read the progress of the jobs that run."""
        with self.changing:
            running = [job for job in self.jobs.values() if job.is_running]
        for job in running:
            job.read_log()

    @property
    def total(self) -> int:
        return sum(stage.total for stage in self.stages.values())

    @property
    def done(self) -> int:
        return sum(stage.done for stage in self.stages.values())

    def failed(self) -> Iterator[tuple[Job, str]]:
        """Yield the failed jobs with their messages; those that say the same once."""
        told = set()
        for job in [job for stage in self.stages.values() for job in stage.failed]:
            message = job.message
            if not message or message not in told:
                yield job, message
            told.add(message)
