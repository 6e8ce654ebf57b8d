"""Read a folder of shards: which clips it holds, and the bytes of each.

`index.json` says which shards belong to the data set; the `.clips.jsonl` beside each shard says
where its clips are. A file of the folder that the index does not name is never read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json, sha256_file
from pipeline.shards.format import ClipEntry, ShardSummary, clips_file

OPEN_SHARDS = 64  # file handles kept by one process
_AGAIN = "run the shard and index stages again"


@dataclass(frozen=True)
class DatasetIndex:
    """The shards of one data set."""

    folder: Path
    name: str
    codec: str
    shards: tuple[ShardSummary, ...]
    census: dict[str, int]  # outcome -> clips
    splits: dict[str, int]  # split -> clips that are there
    lost: tuple[dict[str, str], ...]  # id, outcome, reason, stage, split

    @classmethod
    def load(cls, folder: Path | str) -> DatasetIndex:
        """Read `folder/index.json`. Raises UserError where there is none, or it is damaged."""
        _open.cache_clear()  # shards may have been replaced since this process last read them
        path = Path(folder) / "index.json"
        try:
            body: Any = read_json(path)
            return cls(
                folder=path.parent,
                name=body["name"],
                codec=body["codec"],
                shards=tuple(ShardSummary(**shard) for shard in body["shards"]),
                census=body["census"],
                splits=body["splits"],
                lost=tuple(body["lost"]),
            )
        except FileNotFoundError:
            raise UserError("the data set has no index", place=str(path), remedy=_AGAIN) from None
        except (KeyError, TypeError, ValueError) as error:
            problem = f"this is not the index of a data set: {error!r}"
            raise UserError(problem, place=str(path), remedy=_AGAIN) from None

    def clips(self, splits: Sequence[str]) -> list[ClipEntry]:
        """Return the clips of these splits, in the order of their ids.

        The order depends on the ids alone, not on how they are spread over chunks and shards.
        """
        wanted = [shard for shard in self.shards if shard.split in splits]
        entries = [entry for shard in wanted for entry in self._clips_of(shard)]
        return sorted(entries, key=lambda entry: entry.id)

    def verify(self) -> list[str]:
        """Hash every shard; return one line per shard that is not what the index says."""
        problems = []
        for shard in self.shards:
            path = self.folder / shard.name
            if not path.is_file():
                problems.append(f"{shard.name}: missing")
            elif path.stat().st_size != shard.bytes:
                problems.append(f"{shard.name}: {path.stat().st_size} bytes, not {shard.bytes}")
            elif sha256_file(path) != shard.sha256:
                problems.append(f"{shard.name}: other bytes than when it was written")
        return problems

    def _clips_of(self, shard: ShardSummary) -> list[ClipEntry]:
        path = clips_file(self.folder / shard.name)
        try:
            with path.open(encoding="utf-8") as lines:
                entries = [ClipEntry.parse(line, self.folder / shard.name) for line in lines]
        except (OSError, ValueError) as error:
            problem = f"the list of the clips in {shard.name} cannot be read: {error}"
            raise UserError(problem, place=str(path), remedy=_AGAIN) from None
        if len(entries) != shard.clips:
            problem = f"{shard.name} holds {shard.clips} clips, but {len(entries)} are listed"
            raise UserError(problem, place=str(path), remedy=_AGAIN)
        return entries


def read_bytes(entry: ClipEntry) -> bytes:
    """Return the encoded bytes of a clip's video: one positioned read.

    Each process keeps up to `OPEN_SHARDS` shards open. A handle inherited over a fork is safe to
    share, since `pread` neither uses nor moves the handle's position.
    """
    try:
        handle = _open(entry.shard)  # held, or another thread's eviction might close it
        data = os.pread(handle.number, entry.size, entry.offset)
    except OSError as error:
        problem = f"clip {entry.id!r} cannot be read: {error.strerror}"
        raise UserError(problem, place=str(entry.shard), remedy=_AGAIN) from None
    if len(data) != entry.size:
        problem = f"the shard ends before the end of clip {entry.id!r}"
        raise UserError(problem, place=str(entry.shard), remedy=_AGAIN)
    return data


class _Handle:
    """A file descriptor that is closed with its last reference, also after it left the cache."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open(path: Path) -> _Handle:
    return _Handle(path)
