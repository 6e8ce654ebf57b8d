"""Write one shard: a tar with fixed metadata, hashed on the way, and the two files beside it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import xxhash

from pipeline.data.records import ClipRecord
from pipeline.data.shards import format
from pipeline.data.shards.encode import CHECKS, MOTION, OFFSETS, Member
from pipeline.runtime.files import atomic_path, write_json, write_text


class _Written(NamedTuple):
    """A member's data in the archive: where, how many bytes, and their hashes."""

    offset: int
    size: int
    sha256: str
    xxh3: int


class ShardWriter:
    """Appends clips to one shard. Made by `open_shard`; clips come in the order of their ids."""

    def __init__(self, path: Path, handle: BinaryIO, codec: str) -> None:
        self.path = path
        self.entries: list[format.ClipEntry] = []
        self._handle = handle
        self._codec = codec
        self._sha256s: list[str] = []  # of each clip's pictures
        self._hash = hashlib.sha256()
        self._position = 0

    def add(self, record: ClipRecord, members: Iterable[Member]) -> format.ClipEntry:
        """Append a clip: the members of its codec, and what is known of it.

        Raises ValueError where the ids do not ascend.
        """
        if self.entries and record.id <= self.entries[-1].id:
            raise ValueError(f"clip {record.id!r} comes after {self.entries[-1].id!r}")
        key = format.key_of(record.id)
        written = {each.extension: self._member(key, each) for each in members}
        pictures = written[format.EXTENSIONS[self._codec]]
        self._member(key, Member.of("json", format.clip_json(record)))
        entry = format.ClipEntry(
            id=record.id,
            shard=self.path,
            offset=pictures.offset,
            size=pictures.size,
            frames=record.frames,
            fps=record.fps,
            width=record.width,
            height=record.height,
            split=record.split,
            labels=dict(record.labels),
            codec=self._codec,
            table=written[OFFSETS].offset if OFFSETS in written else 0,
            checks=written[CHECKS].offset if CHECKS in written else 0,
            motion=written[MOTION].offset if MOTION in written else 0,
            xxh3=pictures.xxh3,
        )
        self.entries.append(entry)
        self._sha256s.append(pictures.sha256)
        return entry

    def close(self, split: str, chunk: int) -> format.ShardSummary:
        """Write the end of the archive and return its summary."""
        self._write(format.END)
        return format.ShardSummary(
            name=self.path.name,
            sha256=self._hash.hexdigest(),
            bytes=self._position,
            clips=len(self.entries),
            frames=sum(entry.frames for entry in self.entries),
            split=split,
            chunk=chunk,
        )

    def lines(self) -> str:
        """Return the contents of `.clips.jsonl`."""
        pairs = zip(self.entries, self._sha256s, strict=True)
        return "".join(entry.line(sha256) for entry, sha256 in pairs)

    def _member(self, key: str, member: Member) -> _Written:
        """Write one file of the archive."""
        self._write(format.member_header(f"{key}.{member.extension}", member.size))
        offset, sha256, xxh3 = self._position, hashlib.sha256(), xxhash.xxh3_64()
        for part in member.parts:
            self._write(part)
            sha256.update(part)
            xxh3.update(part)
        if self._position != offset + member.size:
            raise ValueError(f"{key}.{member.extension} has other than its {member.size} bytes")
        self._write(format.padding(member.size))
        return _Written(offset, member.size, sha256.hexdigest(), xxh3.intdigest())

    def _write(self, data: bytes) -> None:
        self._handle.write(data)
        self._hash.update(data)
        self._position += len(data)


@contextlib.contextmanager
def open_shard(
    folder: Path, split: str, chunk: int, part: int, codec: str = "h264", made_from: str = ""
) -> Iterator[ShardWriter]:
    """Write a shard and, when the block ends well, put it and its two companions in place.

    The tar appears first and `.shard.json` last; on an exception none of the three does.
    """
    path = folder / format.shard_name(split, chunk, part)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        writer = ShardWriter(path, handle, codec)
        yield writer
        summary = replace(writer.close(split, chunk), made_from=made_from)
    write_text(format.clips_file(path), writer.lines())
    write_json(format.summary_file(path), asdict(summary))
