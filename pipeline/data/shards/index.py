"""Read a folder of shards: which clips it holds, and the bytes of each.

`index.json` says which shards belong to the data set; `clips.arrow`, or the `.clips.jsonl` beside
each shard, says where its clips are (`shards.clip_table`). A shard that the index does not name is
never read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.data.shards import remote
from pipeline.data.shards.clip_table import ClipTable
from pipeline.data.shards.format import ClipEntry, ShardSummary
from pipeline.data.shards.table_file import AGAIN, listed
from pipeline.errors import UserError
from pipeline.runtime.files import read_json

OPEN_SHARDS = 64  # file handles kept by one process


class Pictures(NamedTuple):
    """What a training learns from: so many clips, and one hash of their pictures."""

    clips: int
    sha256: str


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
        remote.forget()
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
            raise UserError("the data set has no index", place=str(path), remedy=AGAIN) from None
        except (KeyError, TypeError, ValueError) as error:
            problem = f"this is not the index of a data set: {error!r}"
            raise UserError(problem, place=str(path), remedy=AGAIN) from None

    @functools.cached_property
    def _table(self) -> ClipTable:
        return ClipTable.open(self.folder, self.shards)

    def clips(self, splits: Sequence[str]) -> ClipTable:
        """Return the clips of these splits, in the order of their ids.

        The order depends on the ids alone, not on how they are spread over chunks and shards.
        """
        return self._table.of_splits(splits)

    def pictures(self, splits: Sequence[str]) -> Pictures:
        """Return what a training on these splits learns from.

        The hash is of the pictures of each clip, in the order of ids: no label, no name, no place.
        Of shards that were made before hashes were noted, the pictures are read.
        """
        clips, digest = self.clips(splits), hashlib.sha256()
        noted = (sha256 for piece in clips.column("sha256") for sha256 in piece.to_pylist())
        for place, known in enumerate(noted):
            sha256 = known or hashlib.sha256(read_bytes(clips[place])).digest()
            digest.update(f"{sha256.hex()}\n".encode())
        return Pictures(len(clips), digest.hexdigest())

    def clips_of(self, shard: ShardSummary) -> list[ClipEntry]:
        """Return the clips of one shard, in its order, as the list beside it has them."""
        return [entry for entry, _ in listed(self.folder, shard)]


def read_bytes(entry: ClipEntry) -> bytes:
    """Return all bytes of a clip's pictures: one positioned read."""
    return read_at(entry, entry.offset, entry.size)


def read_at(entry: ClipEntry, offset: int, size: int) -> bytes:
    """Return `size` bytes of the clip's shard from `offset`: one positioned read.

    A shard that is not here is read where `data.shards.storage` says, if it does.

    Each process keeps up to `OPEN_SHARDS` shards open. A handle inherited over a fork is safe to
    share, since `pread` neither uses nor moves the handle's position.
    """
    try:
        handle = _open(entry.shard)  # held, or another thread's eviction might close it
        data = os.pread(handle.number, size, offset)
    except FileNotFoundError as error:
        if (store := remote.of(entry.shard.parent)) is None:
            raise _unreadable(entry, error) from None
        return store.read(entry, offset, size)
    except OSError as error:
        raise _unreadable(entry, error) from None
    if len(data) != size:
        raise _cut_short(entry)
    return data


@contextlib.contextmanager
def mapped(entry: ClipEntry) -> Iterator[memoryview]:
    """Map a clip's pictures into memory: a view of its bytes, of which what is touched is read.

    It must not be used after the block. Only this clip is mapped, and only so long, or a process
    would seem to own every page of the data set that it ever read.
    """
    start = entry.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    end = entry.offset + entry.size
    try:
        handle = _open(entry.shard)
        if os.fstat(handle.number).st_size < end:  # touching what is not there ends the process
            raise _cut_short(entry)
        pages = mmap.mmap(handle.number, end - start, access=mmap.ACCESS_READ, offset=start)
    except FileNotFoundError:
        with memoryview(read_bytes(entry)) as view:
            yield view
        return
    except OSError as error:
        raise _unreadable(entry, error) from None
    with pages, memoryview(pages) as whole, whole[entry.offset - start :] as view:
        yield view


def _unreadable(entry: ClipEntry, error: OSError) -> UserError:
    problem = f"clip {entry.id!r} cannot be read: {error.strerror}"
    return UserError(problem, place=str(entry.shard), remedy=AGAIN)


def _cut_short(entry: ClipEntry) -> UserError:
    problem = f"the shard ends before the end of clip {entry.id!r}"
    return UserError(problem, place=str(entry.shard), remedy=AGAIN)


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
