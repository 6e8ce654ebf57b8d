"""What a workflow says at its end: the table of scores, or what failed, and what comes next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.configuration.layout import LOGS, ExperimentLayout, log
from pipeline.planning.board.jobs import JobEvents
from pipeline.runtime import joblog
from pipeline.runtime.progress import duration, last_progress

AGAIN = "run the same command again: it goes on"
NEXT = """\
next:
  features of videos  python -m pipeline embed {folder}/runs/RUN/model.safetensors VIDEOS
  your own videos     python -m pipeline survey FOLDER
  another experiment  python -m pipeline compose experiment=NAME
  {more}"""
PAGES = Path("docs") / "README.md"  # which a project outside of a checkout has not


def add_results(results: Callable[[], str], record: logging.LogRecord) -> bool:
    """Let Snakemake's "Nothing to be done" be followed by the results; a filter of its logger."""
    message = record.getMessage()
    if message.startswith("Nothing to be done"):
        record.msg, record.args = f"{message}\n{results()}".rstrip(), None
    return True


def of_results(experiment: ExperimentLayout) -> str:
    """Return the table as the report printed it, the page's path, and what to try next."""
    if not experiment.report.is_file():
        return ""
    path = log(experiment.name, "report")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    table = "\n".join(line for line in lines if not last_progress(line)).strip()
    report = f"report: {experiment.report}"
    pages, commands = (
        f"all pages           {PAGES}",
        "all commands        python -m pipeline --help",
    )
    following = NEXT.format(folder=experiment.folder, more=pages if PAGES.is_file() else commands)
    return "\n".join([table if report in table else report, "", following])


def of_success(events: JobEvents, experiment: ExperimentLayout) -> str:
    """Return what is said when all jobs are done: the results, if the report was among them."""
    if "report" in events.stages:
        return of_results(experiment)
    return f"{events.done} jobs done in {duration(time.time() - events.began)}"


def of_failure(events: JobEvents, since: float, output: Path) -> str:
    """Return what failed, where, and what is kept; `output` has what everything printed."""
    told = joblog.failures(LOGS, since)
    kept = f"{events.done} of {events.total} jobs are done and kept"
    if events.interrupted:
        kept += "; those that were at work saved where they were"
    failed = [f"  {job.name}" for job, message in events.failed() if not message]
    if failed and not events.interrupted:
        told = "\n".join([told, "ended without a message of their own:", *failed]).lstrip()
    lines = [*filter(None, ["", told, *events.messages]), "", f"{kept}. To finish, {AGAIN}."]
    return "\n".join([*lines, f"All that Snakemake and the jobs printed: {output}"])
