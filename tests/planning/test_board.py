"""What a running workflow shows, from given events and logs: the board, lines, the last screen."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.configuration.layout import ExperimentLayout, log
from pipeline.planning.board import display, last_screen
from pipeline.planning.board.jobs import JobEvents
from pipeline.planning.board.table import board
from pipeline.planning.board.views import LineView
from pipeline.runtime.progress import Progress, last_progress
from tests.terminal import leaves_a_cursor, run_on_terminal

STAGES = {"manifest": 1, "decode": 12, "pretrain": 2, "report": 1}
FULL = "error: the disk is full\n  where:  /data\n  remedy: make room, then run it again"


class Workflow:
    """Sends the events that Snakemake does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = JobEvents(STAGES)
        self.numbers = 0
        self.send(LogEvent.RUN_INFO, stats={**STAGES, "all": 1, "total": 17})

    def send(self, event: LogEvent | None, text: str = "", **fields: Any) -> None:
        level = logging.INFO if event else logging.ERROR
        record = logging.LogRecord("snakemake", level, "x", 1, text, None, None)
        record.__dict__.update(event=event, **fields)
        self.events.handle(record)

    def start(self, rule: str, part: str = "", prints: str = "") -> int:
        self.numbers += 1
        path = self.folder / f"{rule}-{part}.log"
        wildcards = {"chunk" if part.isdigit() else "run": part} if part else {}
        names = {"rule_name": rule, "wildcards": wildcards, "log": [str(path)]}
        self.send(LogEvent.JOB_INFO, jobid=self.numbers, **names)
        if prints:
            path.write_text(prints + "\n", encoding="utf-8")
        self.events.read_logs()
        return self.numbers

    def finish(self, number: int) -> None:
        self.send(LogEvent.JOB_FINISHED, job_id=number)

    def fail(self, number: int) -> None:
        self.send(LogEvent.JOB_ERROR, jobid=number)


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """A workflow half way: a chunk has failed, one is at work, and so is a training."""
    workflow = Workflow(tmp_path)
    workflow.finish(workflow.start("manifest"))
    workflow.finish(workflow.start("decode", "0"))
    workflow.fail(workflow.start("decode", "1", FULL))
    workflow.start("decode", "2", "[decode 2] 40/100 videos, lost 1, 12.5 videos/s, 0:05 left")
    training = "epoch 3/9, loss 3.123, lr 1.00e-03, memory 1,234 MiB, k-NN motion 48.0%"
    workflow.start(
        "pretrain",
        "sigma",
        f"[pretrain sigma] 750/1,500 steps, {training}, 1,123.4 clips/s, 1:02:34 left",
    )
    return workflow


def rendered(
    workflow: Workflow, width: int, height: int = 30, *, told: bool = False, **options: Any
) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), **options)
    texts, size = ("demo  1:02", "what jobs print: x"), (width, height)
    console.print(board(workflow.events, *texts, size, errors_are_told=told))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_progress_is_read_as_it_is_written() -> None:
    """Catches a line of progress that is written in one way and read in another."""
    stream = io.StringIO()
    with Progress("pretrain x", 2000, "steps", rate=("clips", 8), stream=stream) as progress:
        progress.advance(1250, loss="3.1", memory="1,234 MiB")
        progress.say()
    line = last_progress(f"[other] 1/2 steps, 1.0 steps/s, ? left\n{stream.getvalue()}the end\n")
    assert line
    assert (line.done, line.total, line.unit, line.rate_unit) == (1250, 2000, "steps", "clips")
    assert line.fields == ("loss 3.1", "memory 1,234 MiB")
    assert line.rate > 0
    assert last_progress("1/2 steps") is None


def test_the_board_has_stages_runs_and_errors(workflow: Workflow) -> None:
    """Catches a number of a job, a stage, or an error that is not on the board."""
    lines = rendered(workflow, 140)
    assert lines[0].rstrip() == "demo  1:02  2/16 jobs, 1 failed"
    of = {line.split()[0]: line for line in reversed(lines)}
    assert "1/12" in of["decode"]
    assert "1 failed, 1 running" in of["decode"]
    assert "0/2" in of["pretrain"]
    for word in ("750/1,500 steps", "1,123.4 clips/s", "1:02:34 left", "loss 3.123", "k-NN motion"):
        assert word in of["sigma"]
    assert "decode 1: error: the disk is full" in "\n".join(lines)
    assert "remedy: make room" in "\n".join(lines)
    assert lines[-1].startswith("what jobs print: x")


def test_errors_that_are_told_below_the_board_are_not_on_it(workflow: Workflow) -> None:
    """Catches an error that stands at the end twice, and a board that then hides a failure."""
    lines = rendered(workflow, 140, told=True)
    assert "disk is full" not in "".join(lines)
    assert "1 failed" in lines[0]


def test_between_two_jobs_a_row_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a board that loses a line whenever a job ends, and one that never loses it."""
    workflow = Workflow(tmp_path)
    number = workflow.start("decode", "7", "[decode 7] 3/4 videos, 1.0 videos/s, 0:01 left")
    before = rendered(workflow, 140)
    workflow.finish(number)
    between = rendered(workflow, 140)
    assert len(between) == len(before)
    assert any(line.split()[:1] == ["7"] and "done in 0:00" in line for line in between)
    workflow.start("decode", "8")
    assert len(rendered(workflow, 140)) == len(before)
    assert not any(line.split()[:1] == ["7"] for line in rendered(workflow, 140))
    workflow.fail(workflow.numbers)
    assert any("failed in 0:00" in line for line in rendered(workflow, 140))
    now = time.time()
    monkeypatch.setattr("pipeline.planning.board.table.time.time", lambda: now + 60)
    assert not any("failed in" in line for line in rendered(workflow, 140))


@pytest.mark.parametrize(("width", "height"), [(60, 24), (60, 10), (80, 12), (20, 8), (200, 50)])
def test_the_board_fits_the_terminal(workflow: Workflow, width: int, height: int) -> None:
    """Catches a board that is wider or higher than the terminal, which could not be redrawn."""
    for number in range(3, 12):
        workflow.start("decode", str(number))
    lines = rendered(workflow, width, height, force_terminal=True, no_color=True)
    assert len(lines) < height
    plain = rendered(workflow, width, height)
    assert max(map(len, plain)) <= width
    if width >= 60:
        assert any("decode" in line for line in plain)
        assert any("disk is full" in line for line in plain)


def test_a_job_that_is_tried_again_has_not_failed(workflow: Workflow) -> None:
    """Catches a failure, and an old log's progress, that stay when the job runs once more."""
    workflow.numbers = 2  # as the failed job's
    workflow.start("decode", "1")
    stage = workflow.events.stages["decode"]
    assert not stage.failed
    again = stage.jobs[-1]
    assert again.progress is None
    assert again.message == ""  # of the log that is not its own


def test_a_stopped_job_is_no_failure(workflow: Workflow) -> None:
    """Catches a Ctrl-C after which the board is full of errors."""
    workflow.fail(workflow.start("pretrain", "pixel", "stopped: pretrain pixel, SIGTERM"))
    lines = rendered(workflow, 140)
    assert lines[0].rstrip() == "demo  1:02  2/16 jobs, 1 failed"
    assert "1 stopped" in "".join(lines)
    assert "SIGTERM" not in "".join(lines)


def test_lines_tell_each_job_once(workflow: Workflow) -> None:
    """Catches a log of a pipe with control characters, or that tells a job twice or never."""
    stream = io.StringIO()
    view = LineView(stream, "demo", "what jobs print: x", interval=0)
    view.refresh(workflow.events)
    view.interval = 60
    view.refresh(workflow.events)
    view.close(workflow.events, errors_are_told=True)
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert lines[0] == "demo: 16 jobs; what jobs print: x"
    assert sum("done in" in line for line in lines) == 2
    assert sum("decode 1: error: the disk is full" in line for line in lines) == 1
    assert sum("pretrain sigma 750/1,500 steps, loss 3.123" in line for line in lines) == 1
    assert len(lines) == 5


def test_the_last_screen_after_a_failure(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an end that does not say what failed, what is kept, and what to do."""
    monkeypatch.setattr(last_screen, "LOGS", workflow.folder)
    workflow.fail(workflow.start("report"))
    workflow.send(None, "Command 'x' died with <Signals.SIGKILL: 9>.", exception="RuleException")
    text = last_screen.of_failure(workflow.events, 0.0, Path("logs/output.txt"))
    for word in (
        *("error: the disk is full", "decode-1.log", "  report", "SIGKILL"),
        *("2 of 16 jobs are done and kept", last_screen.AGAIN, "logs/output.txt"),
    ):
        assert word in text
    workflow.send(None, "Terminating processes on user request, this might take some time.")
    text = last_screen.of_failure(workflow.events, 0.0, Path("logs/output.txt"))
    assert "saved where they were" in text


def test_the_last_screen_after_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an end without table, or with the report's path twice or not at all."""
    monkeypatch.chdir(tmp_path)
    experiment = ExperimentLayout("x")
    assert last_screen.of_results(experiment) == ""
    experiment.folder.mkdir(parents=True)
    experiment.report.write_text("", encoding="utf-8")
    assert last_screen.of_results(experiment).startswith(f"report: {experiment.report}")
    path = log("x", "report")
    path.parent.mkdir(parents=True)
    path.write_text(f"the table\nreport: {experiment.report}\n", encoding="utf-8")
    text = last_screen.of_results(experiment)
    assert text.startswith("the table")
    assert text.count("report: ") == 1
    assert "survey" in text
    assert "docs/README.md" not in text  # which is not here
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").touch()
    assert "docs/README.md" in last_screen.of_results(experiment)


# A workflow with a job that prints, and then is over, or is left by an exception.
SHOWN = """
import logging, subprocess, sys, time
from pathlib import Path
from pipeline.planning.board.display import Display

logger = logging.getLogger("x")
logger.setLevel(logging.INFO)
logger.addHandler(logging.StreamHandler())
shown = Display("demo", ["decode"], Path("output.txt"), quiet=False)
shown.attach(logger)
logger.info("Building DAG of jobs...")
logger.info("jobs", extra={"event": "run_info", "stats": {"decode": 1}})
shown.begin()
fields = {"jobid": 1, "rule_name": "decode", "wildcards": {"chunk": "0"}, "log": ["decode.log"]}
logger.info("said by Snakemake", extra={"event": "job_info", **fields})
subprocess.run("echo printed by a job; echo and its error >&2", shell=True)
time.sleep(1.5)
if sys.argv[1] == "breaks":
    raise KeyboardInterrupt
logger.info("finished", extra={"event": "job_finished", "job_id": 1})
shown.end()
logger.info("Complete log(s)")
print("the last screen")
"""


def on_terminal(folder: Path, project: Path, how: str, **environment: str) -> str:
    """Run SHOWN on a terminal; return what came there."""
    variables = {**os.environ, "PYTHONPATH": str(project), "TERM": "xterm", **environment}
    return run_on_terminal([sys.executable, "-c", SHOWN, how], folder, variables)[1]


@pytest.mark.parametrize("how", ["ends", "breaks"])
def test_a_terminal_has_the_board_alone(tmp_path: Path, project: Path, how: str) -> None:
    """Catches what disturbs the board, and a terminal that is left without its cursor."""
    said = on_terminal(tmp_path, project, how)
    assert "decode" in said
    assert "printed by a job" not in said
    assert "Snakemake" not in said
    assert "Building" not in said
    assert "Complete" not in said
    assert ("the last screen" in said) == (how == "ends")
    assert leaves_a_cursor(said)
    kept = (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert "printed by a job\nand its error\n" in kept
    assert "said by Snakemake" in kept


def test_a_dumb_terminal_has_lines(tmp_path: Path, project: Path) -> None:
    """Catches control characters where the terminal has none."""
    said = on_terminal(tmp_path, project, "ends", TERM="dumb")
    assert "\x1b" not in said
    assert "[1/1] decode 0: done in" in said


def test_no_colour(tmp_path: Path, project: Path) -> None:
    """Catches a board in colour where NO_COLOR asks for none."""
    said = on_terminal(tmp_path, project, "ends", NO_COLOR="1")
    assert not {f"\x1b[{code}m" for code in (31, 90, 91)} & set(_styles(said))
    assert "decode" in said


def _styles(text: str) -> list[str]:
    return [f"\x1b[{part.split('m')[0]}m" for part in text.split("\x1b[")[1:] if "m" in part]


def test_asked_for_as_before() -> None:
    """Catches a board in the middle of DVC's chain, or where everything was to be shown."""
    assert display.is_wanted({})
    assert display.is_wanted({"VERBOSE": "0"})
    assert not display.is_wanted({"VERBOSE": "1"})
    assert not display.is_wanted({"DVC_STAGE": "pretrain@x"})
