"""What `snakemake` shows of the tiny experiment: on a terminal, in a pipe, failing, stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.configuration.layout import LOGS, ExperimentLayout, printed
from pipeline.planning.board.last_screen import AGAIN
from tests.terminal import Terminal, leaves_a_cursor

from .workspace import Workspace, environment

pytestmark = pytest.mark.system

SHOWN = {**environment(), "VERBOSE": "0"}
SNAKEMAKE = (sys.executable, "-m", "snakemake", "--cores", "2")
OUTPUT = printed("tiny")


def test_a_terminal_ends_with_table_and_report(finished: Workspace, tmp_path: Path) -> None:
    """Catches lines of Snakemake or of a job between those of the board, and a lost table."""
    again = finished.copy(tmp_path / "again")
    (again.folder / ExperimentLayout("tiny").report).unlink()
    with Terminal(SNAKEMAKE, again.folder, SHOWN, size=(60, 24)) as terminal:
        terminal.wait_for("what jobs print")
        terminal.resize(100, 30)
        assert terminal.wait() == 0
    said = terminal.plain
    assert "report" in said
    assert "jobid" not in said
    assert "Select jobs" not in said
    assert said.count("split test, % of clips right") == 2  # labels motion and digit, once each
    assert f"report: {ExperimentLayout('tiny').report}" in said
    assert "survey" in said
    assert leaves_a_cursor(terminal.text)
    assert "Finished jobid" in (again.folder / OUTPUT).read_text(encoding="utf-8")


def test_a_pipe_gets_a_line_per_job(fresh: Workspace) -> None:
    """Catches control characters in a log of cron, and a thousand lines there."""
    done = fresh.run("env", "VERBOSE=0", *SNAKEMAKE, "downloaded")
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert sum(": done in" in line for line in lines) == 3  # the manifest and two chunks
    others = [line for line in lines if " running: " not in line]  # at most one a minute
    assert len(others) <= 7, done.stdout
    assert "Job stats" in fresh.run("env", "VERBOSE=0", *SNAKEMAKE, "--dry-run").stdout


def test_a_failure_says_what_and_where(fresh: Workspace) -> None:
    """Catches an error that is lost behind the board, or without its log and the way on."""
    rows = "id,path\na,1.mp4\na,3.mp4\n"
    (fresh.folder / "list.csv").write_text(rows, encoding="utf-8")
    fresh.compose("data=folder", "data.manifest=list.csv")
    with Terminal(SNAKEMAKE, fresh.folder, SHOWN) as terminal:
        assert terminal.wait() != 0
    end = terminal.plain[terminal.plain.rindex(" jobs, 1 failed") :]  # of the last board, and on
    assert end.count("line 3") == 1
    assert f"{LOGS}/" in end
    assert AGAIN in end
    assert "Traceback" not in terminal.plain
    assert leaves_a_cursor(terminal.text)


def test_ctrl_c_says_that_it_goes_on(fresh: Workspace) -> None:
    """Catches a terminal without its cursor, and an end that looks like a failure."""
    with Terminal([*SNAKEMAKE, "decoded"], fresh.folder, SHOWN) as terminal:
        terminal.wait_for("1 running")
        terminal.press(b"\x03")
        assert terminal.wait() != 0
    end = terminal.plain[terminal.plain.rindex("what jobs print") :]
    assert "saved where they were" in end
    assert AGAIN in end
    assert "Traceback" not in end
    assert leaves_a_cursor(terminal.text)
    assert "Nothing to be done" not in fresh.snakemake("decoded").stdout
