"""What failed jobs said is told once, at the end, and a job that was stopped is no failure."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.runtime import joblog

STOPPED = "stopped: pretrain x, SIGTERM: after step 5, saved as y\n  remedy: run it again\n"


def said_by_snakemake(message: str, exception: str | None = "RuleException") -> logging.LogRecord:
    record = logging.LogRecord("snakemake", logging.ERROR, "x", 1, message, None, None)
    record.exception = exception
    return record


@pytest.mark.parametrize("status", [1, 2, 75, 130])
def test_a_job_that_explained_itself_is_not_repeated(status: int) -> None:
    """Catches a shell command between the messages of other jobs, which tells nothing."""
    message = f"CalledProcessError in file\nCommand 'x' returned non-zero exit status {status}."
    assert not joblog.is_news(said_by_snakemake(message))


@pytest.mark.parametrize(
    ("message", "exception"),
    [
        ("Command 'x' died with <Signals.SIGKILL: 9>.", "RuleException"),  # out of memory, say
        ("Command 'x' returned non-zero exit status 127.", "RuleException"),  # never began
        ("Command 'x' returned non-zero exit status 1.", "WorkflowError"),
        ("12 of 20 steps done", None),
    ],
)
def test_all_else_is_shown(message: str, exception: str | None) -> None:
    """Catches a job that was killed, or never began, and of which nobody says so."""
    assert joblog.is_news(said_by_snakemake(message, exception))


def test_stopped_is_not_failed(tmp_path: Path) -> None:
    """Catches a user who looks for an error where there is none, and the other way round."""
    (tmp_path / "pretrain-x.log").write_text(f"[pretrain x] 5/9 steps\n{STOPPED}")
    assert joblog.failures(tmp_path, since=0).endswith(
        "\nstopped, not failed: run the same command again and it goes on"
    )
    (tmp_path / "decode-0.log").write_text("error: no room\n")
    said = joblog.failures(tmp_path, since=0)
    assert "error: no room" in said
    assert "stopped: pretrain x" in said
    assert "not failed" not in said


def test_a_log_that_cannot_be_written_does_not_end_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an error message that is lost because its log is on the full disk."""
    with joblog.copied_to(Path("/dev/full")):
        print("word\n" * 10_000)
    assert capsys.readouterr().out.count("word") == 10_000
    (tmp_path / "file").write_text("in the way")
    with joblog.copied_to(tmp_path / "file" / "job.log"):
        print("another")
    caught = capsys.readouterr()
    assert "another" in caught.out
    assert "warning: no log is written" in caught.err
