"""What a job prints is copied to a file; and what the failed ones said is read from there."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _Copying:
    """A text stream that also writes to a second one; all else is asked of the first."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._first, self._second = first, second

    def write(self, text: str) -> int:
        self._second.write(COLOUR.sub("", text))
        return self._first.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._second.flush()
        self._first.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)


@contextlib.contextmanager
def copied_to(path: Path | None) -> Iterator[None]:
    """Copy standard output and error to `path` within the block; None copies nowhere."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    # Line by line, and not renamed into place: a log is read while it grows.
    with path.open("w", encoding="utf-8", buffering=1) as log:
        sys.stdout, sys.stderr = _Copying(before[0], log), _Copying(before[1], log)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def failures(folder: Path, since: float, most: int = 3) -> str:
    """Return what the jobs said that have failed since a time (seconds since 1970).

    Each message is the end of a log in `folder` from the line that begins with `error:` or
    `interrupted:`, or from the traceback of a defect. Equal ones, of two chunks say, count once.
    """
    messages: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.log"), key=lambda path: path.stat().st_mtime):
        if path.stat().st_mtime >= since:
            text = path.read_text(encoding="utf-8", errors="replace")
            if begin := re.search(r"^(error: |interrupted: |Traceback )", text, re.MULTILINE):
                messages.setdefault(text[begin.start() :].rstrip(), path)
    shown = [f"{text}\n  log:    {path}" for text, path in list(messages.items())[:most]]
    if len(messages) > most:
        shown.append(f"... and {len(messages) - most} more: see {folder}")
    return "\n".join(shown)
