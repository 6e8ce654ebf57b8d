"""Data sets that are here, found by the hash that a result noted of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.files import mapping_if_readable, sha256_file

DATA = Path("data")


def index_files() -> Iterator[Path]:
    """Yield the index of every data set, those that a benchmark drew for itself last."""
    yield from sorted(DATA.glob("*/shards/index.json"))
    yield from sorted(DATA.glob("*/*/*/*/index.json"))


def with_index(digest: str) -> Path | None:
    """Return the index file that has this hash."""
    return next((path for path in index_files() if sha256_file(path) == digest), None)


def with_pictures(digest: str) -> Path | None:
    """Return the `pictures.json` of the data set whose pictures have this hash."""
    files = sorted(DATA.glob("*/shards/pictures.json"))
    return next((path for path in files if mapping_if_readable(path).get("sha256") == digest), None)
