"""Decoded views, kept on disk: an encoder's looking at a clip costs the next one no decoding.

A file for each clip and kind of view holds the checksum of its pixels, then the pixels. Its name is
a hash of the clip's own bytes, so that another label, split, shard or data set changes nothing, and
a damaged clip is not found in it. What does not fit its checksum is as good as absent: it is
decoded, and written again. Equal views are equal bytes, so any number of jobs may write at once and
be killed at any moment, without temporary files and without waiting for each other.

Shapes: V views, T frames, S pixels of a side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.configuration.schema import Clip, Views
from pipeline.data.load.decoders import Frames
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import read_bytes

CHECKSUM = 4  # bytes before the pixels


@dataclass(frozen=True)
class ViewCache:
    """The views of one kind: of these settings, made by one version of the code."""

    folder: Path

    @classmethod
    def of(cls, root: Path, clip: Clip, views: Views, code: str) -> ViewCache:
        """Return the cache below `root` of what depends on these; `code` is a hash of the code."""
        settings = {
            "clip": clip.model_dump(mode="json", include={"frames", "stride", "size"}),
            "views": views.model_dump(mode="json"),
            "code": code,
        }
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return cls(root / name[:16])

    def path(self, entry: ClipEntry) -> Path:
        """Return where a clip's views are, or would be. Raises UserError as `read_bytes` does."""
        shape = f"{entry.frames} {entry.height} {entry.width} ".encode()
        name = hashlib.blake2b(shape + read_bytes(entry), digest_size=20).hexdigest()
        return self.folder / name[:2] / name

    def read(self, path: Path, shape: tuple[int, ...]) -> Frames | None:
        """Return the views, uint8 (V,T,S,S,3); None where they are not there whole and sound."""
        try:
            content = np.fromfile(path, np.uint8)
        except OSError:
            return None
        pixels = content[CHECKSUM:]
        if pixels.size != np.prod(shape) or content[:CHECKSUM].tobytes() != _sum(pixels):
            return None
        return pixels.reshape(shape)

    def write(self, path: Path, views: Frames) -> None:
        """Keep views; where they cannot be written (a full disk), nothing is kept of them."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # In place and not cut to nothing first: whoever else writes here writes the same bytes.
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with os.fdopen(number, "wb") as file:
                file.write(_sum(views))
                file.write(np.ascontiguousarray(views).data)
                file.truncate()
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()


def evict(root: Path, keep: set[Path], most: int) -> None:
    """Remove other kinds of views below `root`, those first that were used last the longest ago,
    until all that is there fits into `most` bytes; mark those to `keep` as used now."""
    kinds = {path: _bytes(path) for path in root.iterdir()} if root.is_dir() else {}
    total = sum(size for path, size in kinds.items() if path not in keep)
    for path in sorted(kinds.keys() - keep, key=lambda path: path.stat().st_mtime):
        if total > most:
            shutil.rmtree(path, ignore_errors=True)  # who reads there decodes again
            total -= kinds[path]
    for path in kinds.keys() & keep:
        os.utime(path)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _sum(pixels: Frames) -> bytes:
    return zlib.crc32(np.ascontiguousarray(pixels).data).to_bytes(CHECKSUM, "little")
