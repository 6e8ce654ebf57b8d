"""A file of features: a row per clip, with its id, its span of time and the checkpoint's digest.

Parquet has the columns COLUMNS and `features`; npz has arrays of the same names (a time that is not
there is NaN). `start` and `end` are a clip's, `segment_start` and `segment_end` what a list asked
for; all in seconds. Both hold what else is known (`About`) as JSON: in the schema's metadata
under `sigma_pipeline`, in npz as the array `about`.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.runtime.files import atomic_path

FORMAT = "sigma-pipeline features 1"
KEY = b"sigma_pipeline"
TEXTS = ("id", "path", "video_sha256", "label", "split")
TIMES = ("start", "end", "segment_start", "segment_end")
COLUMNS = ("id", "clip", *TIMES, "path", "video_sha256", "label", "split")
GROUP_BYTES = 1 << 26  # of features in one row group
SUFFIXES = (".parquet", ".npz")


@dataclass(frozen=True)
class About:
    """What holds for all rows of a file."""

    checkpoint: dict[str, Any]  # kind, path, sha256
    settings: dict[str, Any]  # all that the features depend on
    shape: tuple[int, ...]  # of one row: (D,), or (N, D) per tube
    census: dict[str, int] = field(default_factory=dict)  # videos by outcome
    lost: tuple[dict[str, str], ...] = ()  # id, outcome, reason, video_sha256 of each lost video
    provenance: dict[str, Any] = field(default_factory=dict)
    format: str = FORMAT


@dataclass(frozen=True)
class Features:
    """A file's rows: a list per column, and `values` float32 (rows, *shape)."""

    about: About
    columns: dict[str, list[Any]]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values)


def write(path: Path, features: Features) -> None:
    """Write a parquet or npz file, by its suffix; `values` may be larger than memory."""
    if path.suffix == ".npz":
        _write_npz(path, features)
    else:
        _write_parquet(path, features)


def read(path: Path) -> Features:
    """Read what `write` wrote.

    Raises:
        UserError: where there is no such file, or it is another's.
    """
    check_suffix(path)
    remedy = "write it with `python -m pipeline embed`"
    if not path.is_file():
        raise UserError("there is no file of features", place=str(path), remedy=remedy)
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise UserError(
            "this is no file of features, or it is damaged", place=str(path), remedy=remedy
        ) from None


def check_suffix(path: Path) -> None:
    """Raise UserError for a name that says of neither format that it is one."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"features are kept in {' or '.join(SUFFIXES)} files", place=str(path))


def _write_parquet(path: Path, features: Features) -> None:
    values = features.values
    size = math.prod(features.about.shape)
    kinds = {"clip": pa.int32(), **dict.fromkeys(TIMES, pa.float64())}
    columns = [(name, kinds.get(name, pa.string())) for name in COLUMNS]
    schema = pa.schema([*columns, ("features", pa.list_(pa.float32(), size))])
    schema = schema.with_metadata({KEY: json.dumps(asdict(features.about), sort_keys=True)})
    each = max(1, GROUP_BYTES // (4 * size))
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(values), each):
            rows = slice(start, start + each)
            flat = pa.array(np.ascontiguousarray(values[rows]).reshape(-1))
            arrays = [pa.array(features.columns[name][rows], kind) for name, kind in columns]
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, size))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _read_parquet(path: Path) -> Features:
    table = pq.read_table(path, memory_map=True)
    about = _about((table.schema.metadata or {})[KEY])
    columns = {name: table.column(name).to_pylist() for name in COLUMNS}
    chunks = [np.asarray(c.flatten()) for c in table.column("features").chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    return Features(about, columns, flat.reshape(table.num_rows, *about.shape))


def _write_npz(path: Path, features: Features) -> None:
    arrays: dict[str, NDArray[Any]] = {
        name: np.array(features.columns[name], dtype=np.str_) for name in TEXTS
    }
    arrays["clip"] = np.array(features.columns["clip"], dtype=np.int32)
    arrays |= {name: np.array(features.columns[name], np.float64) for name in TIMES}
    about = np.array(json.dumps(asdict(features.about), sort_keys=True))
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, about=about, features=features.values, **arrays)


def _read_npz(path: Path) -> Features:
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name].tolist() for name in COLUMNS}
        for name in TIMES:
            columns[name] = [None if math.isnan(value) else value for value in columns[name]]
        return Features(_about(str(file["about"])), columns, file["features"])


def _about(text: str | bytes) -> About:
    body = json.loads(text)
    if body.get("format") != FORMAT:
        raise ValueError("another format")
    return About(**{**body, "shape": tuple(body["shape"]), "lost": tuple(body["lost"])})


def pooled(features: Features) -> NDArray[np.float32]:
    """Return a vector per row, (rows, D): of features per tube, their mean."""
    values = features.values
    return values if values.ndim == 2 else np.stack([row.mean(0) for row in values])


def rows_of(features: Features, clip_id: str) -> Iterator[int]:
    """Yield the places of a video's rows."""
    return (k for k, name in enumerate(features.columns["id"]) if name == clip_id)


def empty_columns() -> dict[str, list[Any]]:
    """Return columns without a row."""
    return {name: [] for name in COLUMNS}


def add_row(columns: dict[str, list[Any]], values: Sequence[Any]) -> None:
    """Append a row's values, in the order of COLUMNS."""
    for name, value in zip(COLUMNS, values, strict=True):
        columns[name].append(value)
