"""Which clips of a chunk share a shard, so that a list that grows changes few shards.

New clips are put at the end of a list, as a rule, and a chunk has its rows in the list's order. So
the places in that order decide: as many full shards as there are, then ever smaller ones, then the
rest. What is added changes the last few, small shards; full ones stay as they are. This is a
function of the list alone, whatever it held before: the same list gives the same shards.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration import stages
from pipeline.configuration.schema import Shards
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import format
from pipeline.runtime.files import read_json

SHARES = (1, 10, 100)  # of `data.shards.clips_per_shard`: a full shard, a tenth, a hundredth
SMALLEST = 8  # clips; a tenth or hundredth of fewer is no shard of its own


@dataclass(frozen=True)
class Part:
    """The clips of one shard, in the order of their ids: `SPLIT-KKKKK-PPP`."""

    split: str
    number: int
    clips: tuple[ClipRecord, ...]  # those that are there

    def made_from(self, settings: Shards) -> str:
        """Hash all that the shard's bytes depend on."""
        unused = set() if settings.motion_vectors else {"motion_vectors"}
        parts = [
            stages.code_sha256("shard"),
            settings.model_dump(mode="json", exclude={"clips_per_shard", *unused}),
            [(clip.sha256, format.clip_json(clip).decode()) for clip in self.clips],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lengths(count: int, largest: int) -> Iterator[int]:
    """Yield how many of `count` clips each part has: `largest`, tenths and hundredths of it, rest.

    >>> list(lengths(2345, 1000))
    [1000, 1000, 100, 100, 100, 10, 10, 10, 10, 5]
    """
    for share in SHARES:
        length = largest // share
        if share == 1 or length >= SMALLEST:
            full, count = divmod(count, length)
            yield from [length] * full
    if count:
        yield count


def of_chunk(clips: Iterable[ClipRecord], largest: int) -> Iterator[Part]:
    """Yield the parts of a chunk that hold a clip. `clips` are in the order of the list.

    A lost clip keeps its place: when it is there after all, its own part alone changes.
    """
    splits: dict[str, list[ClipRecord]] = defaultdict(list)
    for clip in clips:
        splits[clip.split].append(clip)
    for split, members in sorted(splits.items()):
        start = 0
        for number, length in enumerate(lengths(len(members), largest)):
            there = [c for c in members[start : start + length] if c.outcome is Outcome.OK]
            start += length
            if there:
                yield Part(split, number, tuple(sorted(there, key=lambda clip: clip.id)))


def is_made(shard: Path, made_from: str) -> bool:
    """Whether a shard of just these clips and settings lies there, whole."""
    try:
        summary = format.ShardSummary(**read_json(format.summary_file(shard)))
        return (
            summary.made_from == made_from
            and shard.stat().st_size == summary.bytes
            and format.clips_file(shard).is_file()
        )
    except (OSError, ValueError, TypeError):
        return False
