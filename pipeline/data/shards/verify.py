"""Is a folder of shards what its index says? Every byte is read."""

from __future__ import annotations

import contextlib
import tarfile
from collections import Counter
from collections.abc import Iterator

from pipeline.data.records import Outcome
from pipeline.data.shards import format, table_file
from pipeline.data.shards.format import ClipEntry, ShardSummary
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file


def problems(dataset: DatasetIndex) -> Iterator[str]:
    """Yield one line per thing that is not as the index says, shard by shard.

    Of a shard: that it is there, its size and hash, that the clips listed beside it are the ones in
    it and lie where the list says. Of the index: that its table says the same, its counts add up,
    and the folder holds no further shard.
    """
    splits: Counter[str] = Counter()
    for shard in dataset.shards:
        problem = _of_bytes(dataset, shard)
        yield from [problem] if problem else _of_clips(dataset, shard)
        splits[shard.split] += shard.clips
    yield from _of_table(dataset)
    if dict(splits) != dataset.splits:
        yield f"index.json: its splits are {dataset.splits}, those of its shards {dict(splits)}"
    counted = {Outcome.OK.value: sum(splits.values())} if splits else {}
    counted |= dict(Counter(clip["outcome"] for clip in dataset.lost))
    if counted != dataset.census:
        yield f"index.json: its census is {dataset.census}, but it lists {counted}"
    listed = {shard.name for shard in dataset.shards}
    for path in sorted(dataset.folder.glob("*.tar")):
        if path.name not in listed and not path.name.startswith("."):  # such is half written
            yield f"{path.name}: not in the index"


def _of_bytes(dataset: DatasetIndex, shard: ShardSummary) -> str | None:
    path = dataset.folder / shard.name
    if not path.is_file():
        return f"{shard.name}: missing"
    if path.stat().st_size != shard.bytes:
        return f"{shard.name}: {path.stat().st_size} bytes, not {shard.bytes}"
    if sha256_file(path) != shard.sha256:
        return f"{shard.name}: other bytes than when it was written"
    return None


def _of_table(dataset: DatasetIndex) -> Iterator[str]:
    with contextlib.suppress(UserError):  # a list that cannot be read has its line
        if not table_file.agrees_with_lists(dataset.folder, dataset.shards):
            yield f"{table_file.FILE}: other clips than the lists beside the shards"


def _of_clips(dataset: DatasetIndex, shard: ShardSummary) -> Iterator[str]:
    try:
        entries = dataset.clips_of(shard)
    except UserError as error:
        yield f"{format.clips_file(dataset.folder / shard.name).name}: {error.problem}"
        return
    frames = sum(entry.frames for entry in entries)
    if frames != shard.frames:
        yield f"{shard.name}: {frames} frames are listed, not {shard.frames}"
    with tarfile.open(dataset.folder / shard.name) as archive:
        places = {member.name: (member.offset_data, member.size) for member in archive}
    for entry in entries:
        problem = _of_entry(entry, places, dataset.codec, shard.split)
        if problem:
            yield f"{shard.name}: clip {entry.id!r} {problem}"


def _of_entry(
    entry: ClipEntry, places: dict[str, tuple[int, int]], codec: str, split: str
) -> str | None:
    name = f"{format.key_of(entry.id)}.{format.EXTENSIONS[entry.codec]}"
    if entry.codec != codec:
        return f"is stored as {entry.codec}, the data set as {codec}"
    if entry.split != split:
        return f"is listed under split {entry.split!r}"
    if name not in places:
        return f"is listed, but the shard holds no {name}"
    if places[name] != (entry.offset, entry.size):
        return "does not lie where its list says"
    return None
