"""Rows of a list into one file per chunk, as a stream: the list may be larger than memory."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from pathlib import Path
from typing import Self

BUFFERED = 2**27  # characters that wait in memory before they are appended to their files


class Partition:
    """Collects lines by chunk; `finish` puts the files in place, all at once.

    >>> with Partition(Path("data/NAME/chunks"), 480) as partition:
    ...     partition.add(3, "a line\\n")
    ...     partition.finish(header="the first line\\n")

    Without `finish`, or where the block ends in an exception, nothing is changed.
    """

    def __init__(self, folder: Path, chunks: int) -> None:
        self.folder, self.chunks = folder, chunks
        self.counts = [0] * chunks  # lines of each chunk
        self._waiting: list[list[str]] = [[] for _ in range(chunks)]
        self._size = 0
        self._staging = folder.with_name(f".{folder.name}.tmp")

    def __enter__(self) -> Self:
        shutil.rmtree(self._staging, ignore_errors=True)  # of a job that was killed
        return self

    def __exit__(self, *_: object) -> None:
        if self._staging.exists():
            shutil.rmtree(self._staging)
            for folder in (self.folder.parent, self.folder.parent.parent):
                with contextlib.suppress(OSError):  # it holds something: it stays
                    folder.rmdir()

    def add(self, chunk: int, line: str) -> None:
        """Append a line to a chunk's file."""
        self.counts[chunk] += 1
        self._waiting[chunk].append(line)
        self._size += len(line)
        if self._size > BUFFERED:
            self._spill()

    def finish(self, header: str) -> None:
        """Give each chunk its file; leave an equal one as it is, so that nothing after it reruns.

        Files of chunks that there are no longer are removed.
        """
        self._spill()
        self.folder.mkdir(parents=True, exist_ok=True)
        for chunk in range(self.chunks):
            self._put(self._staging / str(chunk), self.folder / f"{chunk}.csv", header)
        for path in self.folder.glob("*.csv"):
            if path.stem.isdecimal() and int(path.stem) >= self.chunks:
                path.unlink()

    def _spill(self) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)
        for chunk, lines in enumerate(self._waiting):
            if lines:
                with (self._staging / str(chunk)).open("a", encoding="utf-8", newline="") as file:
                    file.writelines(lines)
                lines.clear()
        self._size = 0

    def _put(self, spilled: Path, target: Path, header: str) -> None:
        made = spilled.with_suffix(".csv")
        with made.open("wb") as file:
            file.write(header.encode())
            if spilled.exists():
                with spilled.open("rb") as rows:
                    shutil.copyfileobj(rows, file)
            file.flush()
            if target.is_file() and filecmp.cmp(made, target, shallow=False):
                return
            os.fsync(file.fileno())
        made.replace(target)
