"""`python -m pipeline manifest`: check the list of videos and split it into chunks."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Data, Params
from pipeline.errors import UserError
from pipeline.files import sha256_file, write_json, write_text
from pipeline.videos import manifest
from pipeline.videos.manifest import COLUMNS, Row

CLASSES = 1000  # a column of more values (captions, numbers) is not counted by value


def run(params: Params) -> None:
    """Write `chunks/K.csv` for each chunk, then the census of the list, `manifest.json`.

    Raises:
        UserError: where the list, or a row of it, cannot be used.
    """
    data = params.data
    layout = DataLayout(data.name)
    chunks: list[list[Row]] = [[] for _ in range(data.chunks)]
    extra: dict[str, None] = {}  # names of further columns, in the order of the list
    splits: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    for row in _rows(data):
        chunks[manifest.chunk_of(row.id, data.chunks)].append(row)
        extra.update(dict.fromkeys(row.extra))
        splits[row.split] += 1
        for name in ("label", *row.extra):
            if value := row.column(name):
                _count(labels.setdefault(name, Counter()), value)
    for chunk, rows in enumerate(chunks):
        _write_if_changed(layout.chunk_list(chunk), manifest.to_csv(rows, list(extra)))
    _remove_others(layout, data.chunks)
    write_json(
        layout.manifest,
        {
            "name": data.name,
            "source": _source(data),
            "rows": sum(len(rows) for rows in chunks),
            "chunks": [len(rows) for rows in chunks],
            "columns": [*COLUMNS, *extra],
            "splits": dict(splits),
            "labels": {name: found for name, found in labels.items() if len(found) <= CLASSES},
        },
    )


def _count(found: Counter[str], value: str) -> None:
    """Count one value of a column; no further than it takes to see that there are too many."""
    if len(found) <= CLASSES:
        found[value] += 1


def _rows(data: Data) -> Iterator[Row]:
    """Yield the rows of the list, paths relative to the project's folder where they lie in it."""
    if data.synthetic is not None:
        from pipeline.videos import synthetic

        listed = manifest.from_mappings(synthetic.rows(data.synthetic), "data.synthetic")
        yield from _at_least_one(listed)
        return
    if data.manifest is None:
        raise UserError("there is no list of videos", place="data.manifest")
    project = str(Path.cwd())
    unsupported: Row | None = None
    for row in manifest.scan(data.manifest):
        if row.youtube_id or row.synthetic:
            unsupported = unsupported or row
        yield row._replace(path=_within(project, row.path)) if row.path else row
    if unsupported:
        raise _refusal(unsupported, data.manifest)


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


def _refusal(row: Row, place: str) -> UserError:
    if row.youtube_id:
        return UserError(
            f"youtube_id sources are not supported yet (clip {row.id!r})",
            place=place,
            remedy="fetch these videos by other means and give their `path`",
        )
    return UserError(
        f"clip {row.id!r} is synthetic, but the configuration has no data.synthetic",
        place=place,
        remedy="compose with data=synthetic, or give each clip a `path` or `url`",
    )


def _within(project: str, path: str) -> str:
    """Return the path relative to the project's folder, or absolute where it lies outside."""
    absolute = os.path.normpath(os.path.join(project, path))  # noqa: PTH118 - a million of them
    return absolute.removeprefix(project + os.sep)


def _source(data: Data) -> dict[str, Any]:
    """Return what the list is, with a hash by which to tell whether it has changed."""
    if data.synthetic is None:
        return {"file": str(data.manifest), "sha256": sha256_file(str(data.manifest))}
    from pipeline.videos import synthetic

    settings = {"version": synthetic.VERSION, **data.synthetic.model_dump(mode="json")}
    text = json.dumps(settings, sort_keys=True)
    return {"synthetic": settings, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _write_if_changed(path: Path, text: str) -> None:
    """Leave an equal file as it is: its time stamp says that nothing after it need be redone."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _remove_others(layout: DataLayout, chunks: int) -> None:
    """Remove the lists of chunks that there are no longer."""
    for path in layout.chunk_list(0).parent.glob("*.csv"):
        if path.stem.isdecimal() and int(path.stem) >= chunks:
            path.unlink()
