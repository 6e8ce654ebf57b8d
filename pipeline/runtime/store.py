"""What a job has done so far, kept piece by piece, so that a killed one goes on there.

One contract for all pieces, be they a clip's features, a probe's answer or a task's score:

- The pieces of a store are of one key: all that decides them (hashes, settings). What another key
  has left in the folder is removed.
- A piece is written when it is done: its array, then a line of the journal with its checksum. What
  is cut or damaged counts as absent, so that piece is done again.
- Several processes may write at the same time, each with a number of its own.
- The caller removes the store when the result that is made of it lies in its place.

Products of a stage (shards, `features.npz`) are no pieces: each holds what it was made from.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime.files import write_text
from pipeline.runtime.journal import Journal


class Store:
    """Pieces by name: each a record (JSON), most with an array of the store's `dtype`.

    A folder with `key.json` and, by the writer's number, `0.jsonl` (a journal) and `0.bin`.
    """

    def __init__(
        self, folder: Path, key: Mapping[str, Any], dtype: str = "float32", writer: int = 0
    ) -> None:
        """Open the folder; `is_new` tells that it held nothing of this key."""
        self.folder, self.key, self.dtype, self.writer = folder, key, dtype, writer
        text = json.dumps({**key, "dtype": dtype}, sort_keys=True)
        self.is_new = not _holds(folder / "key.json", text)
        if self.is_new:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(folder / "key.json", text)
        paths = {folder / f"{writer}.jsonl", *folder.glob("*.jsonl")}
        self._journals = {int(path.stem): Journal(path) for path in sorted(paths)}
        self._mapped: dict[int, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[type[Store], tuple[Any, ...]]:
        return type(self), (self.folder, self.key, self.dtype, self.writer)

    def as_writer(self, number: int) -> Store:
        """Return the store as it is now, to be written as another process."""
        return Store(self.folder, self.key, self.dtype, number)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open the store for `add`."""
        with (
            self._journals[self.writer],
            (self.folder / f"{self.writer}.bin").open("ab") as self._file,
        ):
            yield

    def add(self, name: str, values: NDArray[Any] | None = None, **record: Any) -> None:
        """Keep a piece; its array goes through a file, where a full disk is an OSError.

        In mapped memory it would be a signal (SIGBUS) that ends the process without a word.
        """
        if values is not None:
            content = np.asarray(values, self.dtype, order="C")
            record |= {"offset": self._file.tell(), "shape": content.shape}
            record["crc"] = zlib.crc32(content.data)
            self._file.write(content.data)
            self._file.flush()
        self._journals[self.writer].add(name, **record)

    def get(self, name: str) -> dict[str, Any]:
        """Return a piece's record; empty where it is absent or damaged."""
        for writer, journal in self._journals.items():
            record = journal.get(name)
            if "crc" in record and zlib.crc32(self._bytes(writer, record).data) != record["crc"]:
                journal.forget(name)
            elif record:
                return record
        return {}

    def values(self, name: str) -> NDArray[Any]:
        """Return the array of a piece that `get` has found whole, read-only."""
        for writer, journal in self._journals.items():
            if "crc" in (record := journal.get(name)):
                return self._bytes(writer, record).view(self.dtype).reshape(record["shape"])
        raise KeyError(name)

    def _bytes(self, writer: int, record: Mapping[str, Any]) -> NDArray[np.uint8]:
        first = record["offset"]
        end = first + math.prod(record["shape"]) * np.dtype(self.dtype).itemsize
        if writer not in self._mapped or end > len(self._mapped[writer]):
            path = self.folder / f"{writer}.bin"
            has_bytes = path.is_file() and path.stat().st_size
            content = np.memmap(path, np.uint8, "r") if has_bytes else np.empty(0, np.uint8)
            self._mapped[writer] = np.asarray(content)
        return self._mapped[writer][first:end]

    def remove(self) -> None:
        """Delete all pieces."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
