"""`python -m pipeline manifest`: check the list of videos and split it into chunks."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data, Params
from pipeline.data.manifest import chunk_list, video_list
from pipeline.data.manifest.partition import Partition
from pipeline.data.manifest.video_list import COLUMNS, Row
from pipeline.errors import UserError
from pipeline.runtime.files import remove_leftovers, sha256_file, write_json

CLASSES = 1000  # a column of more values (captions, numbers) is not counted by value


def run(params: Params) -> None:
    """Write `chunks/K.csv` for each chunk, then the census of the list, `manifest.json`.

    The list passes through as a stream: 10 million clips take a minute and little memory.

    Raises:
        UserError: where the list, or a row of it, cannot be used.
    """
    data = params.data
    layout = DataLayout(data.name)
    remove_leftovers(layout.manifest)
    extra: list[str] = []  # names of further columns, in the order of the list
    splits: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    line = None
    with Partition(layout.chunk_list(0).parent, data.chunks) as partition:
        for number, row in _rows(data):
            if line is None:
                extra = list(row.extra)
                line = video_list.line_writer(extra)
            partition.add(number % data.chunks, line(chunk_list.redacted(row)))
            splits[row.split] += 1
            _count(labels["label"], row.label)
            for name, value in row.extra.items():
                _count(labels[name], value)
        partition.finish(video_list.header_line(extra))
    write_json(
        layout.manifest,
        {
            "name": data.name,
            "source": _source(data),
            "rows": sum(partition.counts),
            "chunks": partition.counts,
            "columns": [*COLUMNS, *extra],
            "splits": dict(splits),
            "labels": {
                name: counts for name, counts in labels.items() if 0 < len(counts) <= CLASSES
            },
        },
    )


def _count(counts: Counter[str], value: str) -> None:
    """Count one value of a column; no further than it takes to see that there are too many."""
    if value and len(counts) <= CLASSES:
        counts[value] += 1


def _rows(data: Data) -> Iterator[tuple[int, Row]]:
    """Yield the rows of the list, each after the hash of its id (`video_list.hash_of`).

    Paths are relative to the project's folder where they lie in it.
    """
    if data.synthetic is not None:
        from pipeline.data import synthetic

        listed = video_list.from_mappings(synthetic.rows(data.synthetic), "data.synthetic")
        yield from ((video_list.hash_of(row.id), row) for row in _at_least_one(listed))
        return
    if data.manifest is None:
        raise UserError("there is no list of videos", place="data.manifest")
    project = str(Path.cwd())
    unsupported: Row | None = None
    for number, row in video_list.scan_hashed(data.manifest):
        if row.synthetic:
            unsupported = unsupported or row
        path = _within(project, row.path) if row.path else ""
        yield number, row if path == row.path else row._replace(path=path)
    if unsupported:
        raise UserError(
            f"clip {unsupported.id!r} is synthetic, but the configuration has no data.synthetic",
            place=data.manifest,
            remedy="compose with data=synthetic, or give each clip a `path` or `url`",
        )


def _at_least_one(rows: Iterator[Row]) -> Iterator[Row]:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - counts what was yielded
        yield row
    if not count:
        raise UserError(
            "the synthetic data set has no clip",
            place="data.synthetic",
            remedy="give train, val or test more than 0 clips",
        )


def _within(project: str, path: str) -> str:
    """Return the path relative to the project's folder, or absolute where it lies outside."""
    if not path.startswith(("/", "..")):
        return path  # normal already, as `manifest` gives it
    absolute = os.path.normpath(os.path.join(project, path))  # noqa: PTH118 - a million of them
    return absolute.removeprefix(project + os.sep)


def _source(data: Data) -> dict[str, Any]:
    """Return what the list is, with a hash by which to tell whether it has changed."""
    if data.synthetic is None:
        return {"file": str(data.manifest), "sha256": sha256_file(str(data.manifest))}
    from pipeline.data import synthetic

    settings = {"version": synthetic.VERSION, **data.synthetic.model_dump(mode="json")}
    text = json.dumps(settings, sort_keys=True)
    return {"synthetic": settings, "sha256": hashlib.sha256(text.encode()).hexdigest()}
