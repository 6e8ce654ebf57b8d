"""What is asked for, whichever way it comes: a file at an address."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.fetch.fetched import Fetched, accept_any, inspect


class TooLarge(Exception):  # noqa: N818 - of the source, not of ours
    """More comes than `data.download.max_bytes`."""


class Allowance:
    """How many bytes may come from one source: of a file, or of all parts of an archive."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._sizes: dict[Path, int] = {}

    def check(self, target: Path, size: int) -> None:
        """Raise TooLarge where `target` has (or will have) more than the others leave."""
        self._sizes[target] = size
        if sum(self._sizes.values()) > self.most:
            raise TooLarge(f"larger than {self.most:,} bytes (data.download.max_bytes): refused")


@dataclass(frozen=True)
class Request:
    """A file to fetch, and where to put it."""

    url: str
    target: Path
    sha256s: Collection[str] = ()  # a file with another hash is fetched again; none: with any
    cut_short: str = ""  # a file with this hash is fetched again, too
    is_archive: bool = False
    allowance: Allowance | None = None  # None: `max_bytes` for this file alone

    @property
    def inspect(self) -> Callable[[Path], Fetched]:
        """Return what looks at the file that came."""
        return accept_any if self.is_archive else inspect
