"""A copy of what a job prints, in a file; the terminal gets it as before."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class _Copying:
    """A text stream that also writes to a second one; all else is asked of the first."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._first, self._second = first, second

    def write(self, text: str) -> int:
        self._second.write(text)
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
