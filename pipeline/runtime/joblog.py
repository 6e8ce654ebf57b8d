"""What a job prints is copied to a file; and what the failed ones said is read from there."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LAST_WORDS = re.compile(r"^(error: |interrupted: |stopped: |Traceback )", re.MULTILINE)
# A job that ended with one of these has said why: they are all of `pipeline.cli.main`.
EXPLAINED = re.compile(r"returned non-zero exit status (1|2|75|130)\.")


class _Copying:
    """A text stream that also writes to a second one; all else is asked of the first."""

    is_shared = True  # by the jobs of a workflow: see pipeline.runtime.progress

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._first, self._second = first, second

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk: the first stream shall still say so
            self._second.write(COLOUR.sub("", text))
        return self._first.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._second.flush()
        self._first.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)


def own_rank(environment: Mapping[str, str]) -> str:
    """This process's number among those of its job, as the launcher says it; "0" where alone."""
    return environment.get("RANK", environment.get("SLURM_PROCID", "0"))


def own_log(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file into which this process copies what it prints: one for each rank."""
    rank = own_rank(environment)
    return path if path is None or rank == "0" else path.with_suffix(f".rank{rank}{path.suffix}")


@contextlib.contextmanager
def copied_to(path: Path | None) -> Iterator[None]:
    """Copy standard output and error to `path` within the block; None copies nowhere."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Line by line, and not renamed into place: a log is read while it grows.
        log = path.open("w", encoding="utf-8", buffering=1)
    except OSError as error:  # the job's own files may lie elsewhere
        print(f"warning: no log is written: {error}", file=sys.stderr)
        yield
        return
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Copying(before[0], log), _Copying(before[1], log)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        with contextlib.suppress(OSError):
            log.close()


def last_words(log: Path) -> str:
    """Return why a job failed, from the end of its log; empty where it does not say."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    begin = LAST_WORDS.search(text)
    return text[begin.start() :].rstrip() if begin else ""


def failures(folder: Path, since: float, most: int = 3) -> str:
    """Return what the jobs said that have failed since a time (seconds since 1970).

    Each message is the end of a log in `folder` from the line that begins with `error:`,
    `interrupted:` or `stopped:`, or from the traceback of a defect. Equal ones, of two chunks say,
    count once.
    """
    messages: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.log"), key=lambda path: path.stat().st_mtime):
        if path.stat().st_mtime >= since and (message := last_words(path)):
            messages.setdefault(message, path)
    shown = [f"{text}\n  log:    {path}" for text, path in list(messages.items())[:most]]
    if len(messages) > most:
        shown.append(f"... and {len(messages) - most} more: see {folder}")
    if messages and all(text.startswith("stopped: ") for text in messages):
        shown.append("stopped, not failed: run the same command again and it goes on")
    return "\n".join(shown)


def is_news(record: logging.LogRecord) -> bool:
    """Whether Snakemake's message says more of a failed job than the job did itself.

    Of a job that has explained itself Snakemake only knows the shell command and the status.
    """
    is_of_a_job = getattr(record, "exception", None) == "RuleException"
    return not (is_of_a_job and EXPLAINED.search(record.getMessage()))
