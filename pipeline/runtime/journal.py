"""What a job has done so far, so that it goes on there when it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self


class Journal:
    """A file of JSON lines, `{"key": ..., ...}`; the last line of a key counts.

    A line is written when its work is done and lies in its place. A killed job may leave half a
    line, which is skipped: that piece of work is done again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._entries[entry.pop("key")] = entry
                except (ValueError, AttributeError, KeyError, TypeError):
                    continue

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = self.path.open("a", encoding="utf-8")
        if self._handle.tell():
            self._handle.write("\n")  # ends a line that was cut; an empty line is skipped
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def get(self, key: str) -> dict[str, Any]:
        """Return the last entry of a key; empty where there is none."""
        return self._entries.get(key, {})

    def add(self, key: str, **entry: Any) -> None:
        """Append an entry, and hand it to the operating system at once."""
        self._entries[key] = entry
        self._handle.write(json.dumps({"key": key, **entry}, sort_keys=True) + "\n")
        self._handle.flush()

    def forget(self, key: str) -> None:
        """Take what this object knows of a key for absent; the file keeps its line."""
        self._entries.pop(key, None)
