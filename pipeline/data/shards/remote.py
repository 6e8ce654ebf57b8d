"""Clips of shards that lie in an object store or on a web server (`data.shards.storage`).

Index, lists and table stay here; of a shard that is not here, each clip is one read of a range, or
two where it is stored as images and few of them are wanted: where they lie, and they. A
clip takes as long to come as the store takes to answer, so those that are read next are asked for
ahead, several at a time. Some are kept on the local disk: which, a hash of the clip decides, so
that processes and machines need no word with each other, and what is kept stays, as each epoch
asks for every clip once. What has come is checked as what lies here is, by the clips' checksums.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.motion_vectors import cells
from pipeline.errors import UserError
from pipeline.runtime.files import atomic_path, read_json

AT_A_TIME = 16  # reads that are under way in one process
AHEAD_BYTES = 2**28  # of clips that have come and were not read yet, in one process
WAITS_S = (0.5, 2.0, 8.0)  # before a read is tried again
TIMEOUT_S = 60.0  # of one read
LEAST_SAVED = 2**21  # bytes: fewer cost less CPU time than a second request (1.5 ms; 0.7 a MiB)
ARRAY_HEADER = 128  # bytes that numpy pads the header of a small array to
CACHE = "cache"  # beside the index


class Span(NamedTuple):
    """The bytes of a shard that hold all of one clip."""

    shard: str  # its file name
    begin: int
    end: int


class Wanted(NamedTuple):
    """A clip that is read next, and its frames that are: the first and the last; None: any."""

    entry: ClipEntry
    frames: tuple[int, int] | None = None


Pieces = dict[int, bytes]  # where each begins in the shard


def span_of(entry: ClipEntry) -> Span:
    """Return where the clip's pictures and the arrays about them lie."""
    arrays = _arrays_of(entry)
    begin = min(entry.offset, arrays.begin)
    return Span(entry.shard.name, begin, max(entry.offset + entry.size, arrays.end))


def _arrays_of(entry: ClipEntry) -> Span:
    """Return where the arrays about a clip's pictures lie; at its pictures' begin without any."""
    arrays = [(entry.table, 8 * (entry.frames + 1)), (entry.checks, 8 * entry.frames)]
    if entry.motion:
        rows, columns = cells(entry.height, entry.width)
        arrays.append((entry.motion, 2 * entry.frames * rows * columns))
    parts = [(begin, begin + ARRAY_HEADER + size) for begin, size in arrays if begin]
    parts = parts or [(entry.offset, entry.offset)]
    return Span(entry.shard.name, min(part[0] for part in parts), max(part[1] for part in parts))


def _images_of(entry: ClipEntry, frames: tuple[int, int], table: bytes) -> Span | None:
    """Return where a clip's images from one frame to another lie; None where `table` is none."""
    offsets = np.frombuffer(table, "<i8", entry.frames + 1, ARRAY_HEADER)
    begin, end = int(offsets[frames[0]]), int(offsets[frames[1] + 1])
    if not 0 <= begin < end <= entry.size:
        return None
    return Span(entry.shard.name, entry.offset + begin, entry.offset + end)


def _saves(entry: ClipEntry, frames: tuple[int, int], arrays: Span) -> bool:
    """Tell whether a clip's frames from one to another are worth two requests."""
    if entry.codec != "jpeg" or arrays.end > entry.offset:
        return False
    unwanted = entry.frames - (frames[1] - frames[0] + 1)
    return entry.size * unwanted >= LEAST_SAVED * entry.frames


@dataclass(frozen=True)
class Storage:
    """Where shards lie that are not in the folder of their index."""

    address: str
    hashes: dict[str, str]  # file name of a shard -> its SHA-256
    cache: Path
    cached_share: float  # of the clips

    def keeps(self, entry: ClipEntry) -> bool:
        """Tell whether a clip is kept on the local disk once it has come."""
        digest = hashlib.blake2b(entry.id.encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.cached_share * 2.0**64

    def kept(self, span: Span) -> Path:
        """Where these bytes are kept: another shard of the same name has other files."""
        key = f"{self.hashes.get(span.shard, '')} {span.begin} {span.end}".encode()
        name = hashlib.blake2b(key, digest_size=16).hexdigest()
        return self.cache / name[:2] / name


class RemoteShards:
    """Reads clips of one data set's remote shards, in one process; any of its threads may."""

    def __init__(self, storage: Storage) -> None:
        # Here and below, as processes that read local shards alone need none of it.
        from pipeline.data.fetch.remote import start_stores

        start_stores()
        self.storage = storage
        scheme, _, place = storage.address.rstrip("/").partition("://")
        # Only a web server's paths are whole addresses to fsspec.
        self._prefix = storage.address.rstrip("/") if scheme in ("http", "https") else place
        self._scheme = scheme
        self._pool = ThreadPoolExecutor(AT_A_TIME, "shards")
        self._lock = threading.Lock()
        self._coming: dict[Span, Wanted] = {}  # in the order in which they are read
        self._asked: dict[Span, Future[Pieces]] = {}  # ahead
        self._last: tuple[Span, Pieces] | None = None  # a clip is read in several pieces

    def expect(self, clips: Iterable[Wanted]) -> None:
        """Say which clips are read next, in this order; what else was expected no longer is."""
        coming = {span_of(wanted.entry): wanted for wanted in clips}
        with self._lock:
            self._asked = {span: each for span, each in self._asked.items() if span in coming}
            self._coming = {span: each for span, each in coming.items() if span not in self._asked}
            self._ask()

    def read(self, entry: ClipEntry, offset: int, size: int) -> bytes:
        """Return `size` bytes of the clip's shard from `offset`, within the clip's.

        Raises:
            UserError: the store has no such shard, refuses, or does not answer.
        """
        span, last = span_of(entry), self._last
        pieces = last[1] if last is not None and last[0] == span else self._take(entry, span)
        found = _part(pieces, offset, size)
        if found is None:  # of other frames than were expected
            self._last = (span, pieces := self._pieces(Wanted(entry)))
            found = _part(pieces, offset, size)
        if found is None:
            raise ValueError(f"bytes {offset} to {offset + size} are not of clip {entry.id!r}")
        return found

    def _take(self, entry: ClipEntry, span: Span) -> Pieces:
        with self._lock:
            asked = self._asked.pop(span, None)
            self._coming.pop(span, None)
            self._ask()
        pieces = asked.result() if asked is not None else self._pieces(Wanted(entry))
        self._last = (span, pieces)
        return pieces

    def _ask(self) -> None:
        """Ask for the clips that come next, as many as there is room for."""
        ahead = sum(span.end - span.begin for span in self._asked)
        while self._coming and len(self._asked) < AT_A_TIME:
            span = next(iter(self._coming))
            ahead += span.end - span.begin
            if self._asked and ahead > AHEAD_BYTES:
                return
            self._asked[span] = self._pool.submit(self._pieces, self._coming.pop(span))

    def _pieces(self, wanted: Wanted) -> Pieces:
        """Return the bytes of a clip, or of its arrays and of the wanted images alone."""
        (entry, frames), span = wanted, span_of(wanted.entry)
        if self.storage.keeps(entry):
            return {span.begin: self._whole_and_kept(entry, span)}
        arrays = _arrays_of(entry)
        if frames is not None and _saves(entry, frames, arrays):
            read = self._fetched(entry, arrays)
            images = _images_of(entry, frames, read[entry.table - arrays.begin :])
            if images is not None:
                return {arrays.begin: read, images.begin: self._fetched(entry, images)}
        return {span.begin: self._fetched(entry, span)}

    def _whole_and_kept(self, entry: ClipEntry, span: Span) -> bytes:
        """Return all bytes of a clip, from the local disk once they are kept there."""
        path = self.storage.kept(span)
        data = _kept(path, span.end - span.begin)
        if data is None:
            data = self._fetched(entry, span)
            _keep(path, data)
        return data

    def _fetched(self, entry: ClipEntry, span: Span) -> bytes:
        """Read a range of a shard, several times where the store fails."""
        problem = ""
        for wait in (0.0, *WAITS_S):
            time.sleep(wait)
            try:
                data = self._answer(span)
            except FileNotFoundError:
                raise self._error(entry, "the store has no such shard") from None
            except PermissionError as error:
                raise self._error(entry, f"the store refuses: {error}") from None
            except (UserError, ImportError) as error:
                raise self._error(entry, str(error)) from None
            except Exception as error:  # noqa: BLE001 - each store has exceptions of its own
                problem = f"the store does not answer: {str(error)[:200] or type(error).__name__}"
                continue
            size = span.end - span.begin
            if len(data) == size:
                return data
            problem = f"{len(data):,} bytes came in place of {size:,}"
            if len(data) > size:
                raise self._error(entry, f"{problem}: the store reads no ranges of files")
        raise self._error(entry, problem)

    def _answer(self, span: Span) -> bytes:
        """Read a range once."""
        from pipeline.data.fetch.remote import store_class
        from pipeline.data.fetch.step_timeout import StepTimeout, call_with_step_timeout

        store, answers = store_class(self._scheme)(), list[bytes]()

        def read(_: StepTimeout) -> None:
            answers.append(store.cat_file(f"{self._prefix}/{span.shard}", span.begin, span.end))

        call_with_step_timeout(read, TIMEOUT_S)
        return answers[0]

    def _error(self, entry: ClipEntry, problem: str) -> UserError:
        return UserError(
            f"clip {entry.id!r} cannot be read: {problem}",
            place=f"{self.storage.address.rstrip('/')}/{entry.shard.name}",
            remedy="see data.shards.storage; a shard that is in the folder of the index is read "
            "there",
        )


def of(folder: Path) -> RemoteShards | None:
    """Return what reads the remote shards of this folder's index; None where it names no storage.

    A process that was forked has its own: connections and threads are its parent's.
    """
    return _of(folder, os.getpid())


@functools.lru_cache(maxsize=16)
def _of(folder: Path, _process: int) -> RemoteShards | None:
    try:
        body: Any = read_json(folder / "index.json")
        settings = body["storage"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    total = sum(shard["bytes"] for shard in body["shards"])
    share = settings["cache_gib"] * 2**30 / max(total, 1)
    hashes = {shard["name"]: shard["sha256"] for shard in body["shards"]}
    return RemoteShards(Storage(settings["address"], hashes, folder / CACHE, min(share, 1.0)))


def forget() -> None:
    """Read indexes anew: one may have been replaced."""
    _of.cache_clear()


def _part(pieces: Pieces, offset: int, size: int) -> bytes | None:
    """Return `size` bytes from `offset` of the shard; None where no piece has them all."""
    for begin, data in pieces.items():
        if begin <= offset and offset + size <= begin + len(data):
            return data[offset - begin : offset - begin + size]
    return None


def _kept(path: Path, size: int) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[8:]
    sound = len(data) == size and content[:8] == xxhash.xxh3_64_digest(data)
    return data if sound else None


def _keep(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(xxhash.xxh3_64_digest(data) + data)
    except OSError:  # a full disk: nothing is kept of it
        return
