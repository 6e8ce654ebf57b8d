"""The file of the table of clips (`clips.arrow`): its columns, and how it is made from the lists.

It names the hashes of the shards that it is of. A data set that was indexed before there were
tables has none, and its table is made in memory.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.shards.format import ClipEntry, ShardSummary, clips_file
from pipeline.errors import UserError
from pipeline.runtime.files import atomic_path

if TYPE_CHECKING:  # planning a workflow imports this module, and reads no table
    import pyarrow as pa

FILE = "clips.arrow"
ROWS = 256  # of a record batch: 40 KB, which are one read
AGAIN = "run the shard and index stages again"
_OWN = ("shard", "labels", "sha256")  # columns that are not as a `ClipEntry` has them
_PIECE = 1 << 20  # rows that are sorted at a time


def opened(folder: Path, shards: tuple[ShardSummary, ...]) -> pa.NativeFile:
    """Open the table of these shards, or one in memory where there is none.

    Raises:
        UserError: where the list beside a shard is absent, damaged, or another's.
    """
    return _of_these(folder / FILE, shards) or _in_memory(folder, shards)


def listed(folder: Path, shard: ShardSummary) -> Iterator[tuple[ClipEntry, str]]:
    """Yield the clips of a shard, in its order, each with the SHA-256 of its pictures or ''.

    Raises:
        UserError: where the list that lies beside the shard is absent, damaged, or another's.
    """
    tar, count = folder / shard.name, 0
    path = clips_file(tar)
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield ClipEntry.parse_with_sha256(line, tar)
                count += 1
    except (OSError, ValueError) as error:
        problem = f"the list of the clips in {shard.name} cannot be read: {error}"
        raise UserError(problem, place=str(path), remedy=AGAIN) from None
    if count != shard.clips:
        problem = f"{shard.name} holds {shard.clips} clips, but {count} are listed"
        raise UserError(problem, place=str(path), remedy=AGAIN)


def write(folder: Path, shards: tuple[ShardSummary, ...]) -> None:
    """Write the table of all clips of these shards; equal clips give equal bytes.

    Raises:
        UserError: where the list beside a shard is absent, damaged, or another's.
    """
    with atomic_path(folder / FILE) as temporary:
        _write(folder, shards, str(temporary))


def agrees_with_lists(folder: Path, shards: tuple[ShardSummary, ...]) -> bool:
    """Whether the table, where it is of these shards, says what the lists beside them say."""
    import pyarrow as pa

    file = _of_these(folder / FILE, shards)
    if file is None:
        return True
    table, rebuilt = pa.ipc.open_file(file), pa.ipc.open_file(_in_memory(folder, shards))
    return bool(table.read_all().equals(rebuilt.read_all()))


def _in_memory(folder: Path, shards: tuple[ShardSummary, ...]) -> pa.BufferReader:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    _write(folder, shards, sink)
    return pa.BufferReader(sink.getvalue())


def _write(folder: Path, shards: tuple[ShardSummary, ...], sink: str | pa.NativeFile) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = schema().with_metadata({"shards": _digest(shards)})
    batches = [_rows(folder, shard, number) for number, shard in enumerate(shards)]
    table = pa.Table.from_batches(batches, columns)
    order = pc.sort_indices(table.column("id"))
    with pa.ipc.new_file(sink, columns) as writer:
        for start in range(0, len(table), _PIECE):  # a sorted copy of all would be as large again
            piece = table.take(order.slice(start, _PIECE)).combine_chunks()
            writer.write_table(piece, max_chunksize=ROWS)


def _rows(folder: Path, shard: ShardSummary, number: int) -> pa.RecordBatch:
    """Return the clips of one shard, as rows."""
    import pyarrow as pa

    names = [name for name in schema().names if name not in _OWN]
    columns: dict[str, list[Any]] = {name: [] for name in schema().names}
    for entry, sha256 in listed(folder, shard):
        for name in names:
            columns[name].append(getattr(entry, name))
        columns["shard"].append(number)
        columns["labels"].append(json.dumps(entry.labels, ensure_ascii=False))
        columns["sha256"].append(bytes.fromhex(sha256) or None)
    return pa.record_batch(columns, schema())


def _of_these(path: Path, shards: tuple[ShardSummary, ...]) -> pa.NativeFile | None:
    """Open the table of these shards; None where there is none, or it is of others."""
    import pyarrow as pa

    try:
        file = pa.OSFile(str(path))
        found = pa.ipc.open_file(file).schema
    except (OSError, ValueError):
        return None
    of = (found.metadata or {}).get(b"shards", b"").decode()
    return file if found.equals(schema()) and of == _digest(shards) else None


def _digest(shards: tuple[ShardSummary, ...]) -> str:
    """Return a hash of which shards there are, and what is in them."""
    known = [[shard.name, shard.sha256, shard.clips, shard.split] for shard in shards]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@functools.cache
def schema() -> pa.Schema:
    import pyarrow as pa

    types = {
        **{"id": pa.large_string(), "shard": pa.int32(), "offset": pa.int64(), "size": pa.int64()},
        **{"frames": pa.int32(), "fps": pa.float64(), "width": pa.int32(), "height": pa.int32()},
        **{"split": pa.string(), "labels": pa.large_string(), "codec": pa.string()},  # labels: JSON
        **{"table": pa.int64(), "checks": pa.int64(), "motion": pa.int64(), "xxh3": pa.uint64()},
        "sha256": pa.binary(32),
    }
    return pa.schema(list(types.items()))
