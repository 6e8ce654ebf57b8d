"""Features that an embedding has so far, so that it goes on there, however it ended.

A folder beside the output: `values.bin` has the features of each video, one after the other, and
`journal.jsonl` a line per video with its place in there and a checksum. The line is written after
the features, so every line that a killed job leaves is of features that are there.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime.files import write_text
from pipeline.runtime.journal import Journal

Values = NDArray[np.float32]


class FeatureCache:
    """Features by video, on disk, as long as `key` (all that they depend on) is the same."""

    def __init__(self, folder: Path, key: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        """Open the folder, or begin it anew; `shape` is of one video: (C, D) or (C, N, D)."""
        self.folder, self.shape = folder, shape
        text = json.dumps({**key, "shape": shape}, sort_keys=True)
        self.is_new = not self._is_of(text)
        if self.is_new:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(folder / "key.json", text)
        self.scratch = folder / "scratch"  # what a killed job left there is nothing
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        self._journal = Journal(folder / "journal.jsonl")

    def _is_of(self, text: str) -> bool:
        try:
            return (self.folder / "key.json").read_text(encoding="utf-8") == text
        except OSError:
            return False

    def __enter__(self) -> Self:
        self._journal.__enter__()
        self._values = (self.folder / "values.bin").open("a+b")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._values.close()
        self._journal.__exit__(kind, error, trace)

    def add(self, clip_id: str, values: Values | None, **record: Any) -> None:
        """Keep a video's features (None: it is lost) and its record."""
        if values is None:
            self._journal.add(clip_id, **record)
            return
        content = np.ascontiguousarray(values, np.float32).tobytes()
        offset = self._values.seek(0, 2)
        self._values.write(content)
        self._values.flush()
        self._journal.add(clip_id, offset=offset, crc=zlib.crc32(content), **record)

    def get(self, clip_id: str) -> dict[str, Any]:
        """Return the record of a video; empty where it has to be embedded (again)."""
        entry = self._journal.get(clip_id)
        if "offset" in entry and self._content(entry) is None:
            return {}
        return entry

    def values(self, clip_id: str) -> Values:
        """Return the features of a video that `get` knows to be there."""
        content = self._content(self._journal.get(clip_id))
        if content is None:
            raise KeyError(clip_id)
        return np.frombuffer(content, np.float32).reshape(self.shape)

    def _content(self, entry: Mapping[str, Any]) -> bytes | None:
        self._values.seek(entry["offset"])
        content = self._values.read(4 * int(np.prod(self.shape)))
        return content if zlib.crc32(content) == entry["crc"] else None

    def remove(self) -> None:
        """Delete the folder: all is in the output."""
        shutil.rmtree(self.folder, ignore_errors=True)
