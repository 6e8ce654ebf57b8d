"""The clips of a data set as a table: `clips.arrow` beside the index, or built from the lists.

The table is an Arrow IPC file: a row per clip, in the order of ids, in record batches of `ROWS`
rows. Nothing of it stays in memory: a clip is one positioned read of its batch, which costs some
100 microseconds and leaves no page in the process, as mapped memory would; a column is read batch
after batch. What a process keeps is at most four bytes a clip: which rows are of its splits.

A table belongs to the shards whose hashes it names. Where it is absent (the data set was indexed
before there were tables) or of other shards, the lists of the shards are read instead, and their
table is in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.data.shards import table_file
from pipeline.data.shards.format import ClipEntry, ShardSummary
from pipeline.data.shards.table_file import FILE, ROWS
from pipeline.errors import UserError

if TYPE_CHECKING:  # planning a workflow imports this module, and reads no table
    import pyarrow as pa

_BLOCK = 1 << 16  # places in work at a time
_TOGETHER = 256  # pieces of record batches that are one piece of a column

Places = range | NDArray[np.integer[Any]]


class ClipTable(Sequence[ClipEntry]):
    """Clips of a data set, in the order of their ids or as they were chosen; read when asked for.

    A slice is a table, too. Processes that are forked share the open file.
    """

    def __init__(self, source: _Source, places: Places) -> None:
        self._source, self._places = source, places

    @classmethod
    def open(cls, folder: Path, shards: tuple[ShardSummary, ...]) -> ClipTable:
        """Return all clips of these shards.

        Raises:
            UserError: where there is no table of them and a list cannot be read.
        """
        return cls(_Source(folder, shards), range(sum(shard.clips for shard in shards)))

    def of_splits(self, splits: Sequence[str]) -> ClipTable:
        """Return the clips that lie in shards of these splits, in the same order."""
        chosen = np.array([shard.split in splits for shard in self._source.shards], np.bool_)
        if chosen.all():
            return self
        if not chosen.any():
            return self.at([])
        masks = [chosen[piece.to_numpy()] for piece in self.column("shard")]
        places = np.flatnonzero(np.concatenate(masks))
        return self.at(places.astype(np.min_scalar_type(len(self._source))))

    def at(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> ClipTable:
        """Return the clips at these indices, in this order."""
        chosen, known = np.asarray(indices), self._places
        if not len(chosen):
            return ClipTable(self._source, range(0))
        if isinstance(known, range) and known == range(len(self._source)):
            return ClipTable(self._source, chosen)
        return ClipTable(self._source, np.asarray(known)[chosen])

    def by_id(self) -> ClipTable:
        """Return the same clips in the order of their ids, in which they are read fastest."""
        if isinstance(self._places, range):
            return self
        return ClipTable(self._source, np.sort(self._places))

    def column(self, name: str) -> Iterator[pa.Array]:
        """Yield the values of one column, in the order of the clips, in pieces."""
        import pyarrow as pa

        pieces = self._pieces(name)
        while some := [piece.column(0) for piece in itertools.islice(pieces, _TOGETHER)]:
            yield pa.concat_arrays(some)

    def _pieces(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their order, those together that follow in one record batch."""
        reader = self._source.open(columns)
        for start in range(0, len(self), _BLOCK):
            places = np.asarray(self._places[start : start + _BLOCK], np.int64)
            for run in np.split(places, np.flatnonzero(np.diff(places // ROWS)) + 1):
                batch = self._source.read(reader, int(run[0]) // ROWS)
                yield batch if len(run) == ROWS and _follow(run) else batch.take(run % ROWS)

    def __iter__(self) -> Iterator[ClipEntry]:
        for piece in self._pieces():
            for row in piece.to_pylist():
                yield self._source.entry_of(row)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> ClipEntry: ...

    @overload
    def __getitem__(self, index: slice) -> ClipTable: ...

    def __getitem__(self, index: int | slice) -> ClipEntry | ClipTable:
        if isinstance(index, slice):
            return ClipTable(self._source, self._places[index])
        return self._source.entry(int(self._places[index]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._source.folder, self._source.shards, self._places)


class _Source:
    """The rows of all clips of some shards."""

    def __init__(self, folder: Path, shards: tuple[ShardSummary, ...]) -> None:
        self.folder, self.shards = folder, shards
        self._file = table_file.opened(folder, shards)
        self._reader = self.open()
        self._last: tuple[int, tuple[pa.Array, ...]] = (-1, ())  # clips that follow share it

    def __len__(self) -> int:
        return sum(shard.clips for shard in self.shards)

    def open(self, columns: Sequence[str] = ()) -> pa.RecordBatchFileReader:
        """Return a reader of these columns, or of all."""
        import pyarrow as pa

        numbers = [table_file.schema().get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=numbers or None)
        return pa.ipc.open_file(self._file, options=options)

    def read(self, reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
        """Return one record batch."""
        try:
            return reader.get_batch(number)
        except (OSError, ValueError) as error:
            raise UserError(
                f"the table of clips cannot be read: {error}",
                place=str(self.folder / FILE),
                remedy="run the index stage again",
            ) from None

    def entry(self, place: int) -> ClipEntry:
        """Return the clip in one row."""
        number, row = divmod(place, ROWS)
        last, columns = self._last
        if number != last:
            columns = tuple(self.read(self._reader, number).columns)
            self._last = (number, columns)
        names = table_file.schema().names
        values = (column[row].as_py() for column in columns)
        return self.entry_of(dict(zip(names, values, strict=True)))

    def entry_of(self, row: dict[str, Any]) -> ClipEntry:
        """Return the clip that a row tells of."""
        del row["sha256"]
        row["shard"] = self.folder / self.shards[row["shard"]].name
        row["labels"] = json.loads(row["labels"])
        return ClipEntry(**row)


def _opened(folder: Path, shards: tuple[ShardSummary, ...], places: Places) -> ClipTable:
    return ClipTable(_Source(folder, shards), places)


def counts(clips: Sequence[ClipEntry], field: str) -> Counter[Any]:
    """Count how many clips have each value of a field; shards may be named by their numbers."""
    if not isinstance(clips, ClipTable):
        return Counter(getattr(entry, field) for entry in clips)
    counted: Counter[Any] = Counter()
    for piece in clips.by_id().column(field):
        values, numbers = piece.value_counts().flatten()
        for value, number in zip(values.to_pylist(), numbers.to_pylist(), strict=True):
            counted[value] += number
    return counted


def ids_of(clips: Sequence[ClipEntry]) -> Iterator[str]:
    """Yield the ids of clips."""
    if isinstance(clips, ClipTable):
        for piece in clips.column("id"):
            yield from piece.to_pylist()
    else:
        yield from (entry.id for entry in clips)


def ids_sha256(clips: Sequence[ClipEntry]) -> str:
    """Return the SHA-256 of the ids, one a line."""
    digest, between = hashlib.sha256(), ""
    for name in ids_of(clips):
        digest.update(f"{between}{name}".encode())
        between = "\n"
    return digest.hexdigest()


def at(
    clips: Sequence[ClipEntry], places: Sequence[int] | NDArray[np.integer[Any]]
) -> Sequence[ClipEntry]:
    """Return the clips at these places, in this order."""
    return clips.at(places) if isinstance(clips, ClipTable) else [clips[k] for k in places]


def labels_of(clips: Sequence[ClipEntry]) -> dict[str, dict[str, str]]:
    """Return the labels of clips by id; those of equal labels share them."""
    if not isinstance(clips, ClipTable):
        return {entry.id: entry.labels for entry in clips}
    known: dict[str, dict[str, str]] = {}
    texts = (text for piece in clips.column("labels") for text in piece.to_pylist())
    found = {}
    for name, text in zip(ids_of(clips), texts, strict=True):
        if text not in known:
            known[text] = json.loads(text)
        found[name] = known[text]
    return found


def places_by(clips: Sequence[ClipEntry], column: str) -> dict[str, NDArray[np.int64]]:
    """Return the places of the clips that have each value of a column of the list; "": none.

    The column is `label` or a further one. Four bytes a clip are held beside what is returned.
    """
    numbers: dict[str, int] = {}  # of the values
    codes = [np.zeros(0, np.int32)]
    for texts, rows in _encoded_labels(clips):
        values = (json.loads(text).get(column, "") for text in texts)
        codes.append(np.array([numbers.setdefault(v, len(numbers)) for v in values])[rows])
    of_clip = np.concatenate(codes, dtype=np.int32, casting="same_kind")
    places = np.argsort(of_clip, kind="stable")
    ends = np.cumsum(np.bincount(of_clip, minlength=len(numbers)))
    return dict(zip(numbers, np.split(places, ends)[:-1], strict=True))


def _encoded_labels(
    clips: Sequence[ClipEntry],
) -> Iterator[tuple[list[str], NDArray[np.integer[Any]]]]:
    """Yield the labels of some clips after others, as JSON: different ones, and which each has."""
    if not isinstance(clips, ClipTable):
        if clips:
            yield [json.dumps(entry.labels) for entry in clips], np.arange(len(clips))
        return
    for piece in clips.column("labels"):
        encoded = piece.dictionary_encode()
        yield encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def with_ids(clips: Sequence[ClipEntry], ids: Iterable[str]) -> Sequence[ClipEntry]:
    """Return the clips that have these ids, in their order. Raises KeyError where one has none."""
    if not isinstance(clips, ClipTable):
        by_id = {entry.id: entry for entry in clips}
        return [by_id[name] for name in ids]
    import pyarrow as pa
    import pyarrow.compute as pc

    asked = [*map(str, ids)]
    names = pa.chunked_array(list(clips.column("id")), pa.large_string())
    places = pc.index_in(pa.array(asked, pa.large_string()), value_set=names)
    if places.null_count:
        raise KeyError(asked[places.is_null().index(True).as_py()])
    return clips.at(places.to_numpy())


def _follow(places: NDArray[np.int64]) -> bool:
    return bool(places[0] % ROWS == 0 and (np.diff(places) == 1).all())
