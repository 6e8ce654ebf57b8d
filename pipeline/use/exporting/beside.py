"""What lies beside a checkpoint of this project, and is of just these weights.

A file that tells of other weights (their digest is in it) is left out, with a note: no card says
of a model what was measured on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.data.shards import by_hash
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.runtime.files import mapping_if_readable, sha256_file


@dataclass(frozen=True)
class Beside:
    """The pretraining's manifest, results by their stage, and the data set where it is here."""

    pretrain: dict[str, Any] = field(default_factory=dict)
    # by the file's name; on a further data set, `data/NAME/` comes before it
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of each file that was read
    data: DatasetIndex | None = None
    notes: tuple[str, ...] = ()


def find(checkpoint: Path, sha256: str) -> Beside:
    """Look beside the checkpoint, and for its data set in this project folder."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    notes, results, digests = [], {}, {}
    pretrain = mapping_if_readable(folder / "pretrain.json")
    if pretrain and pretrain.get("model_sha256") != sha256:
        notes.append("pretrain.json beside it tells of other weights, so it was not used")
        pretrain = {}
    if pretrain:
        digests["pretrain.json"] = sha256_file(folder / "pretrain.json")
    for path in _of_benchmarks(folder):
        name = path.relative_to(folder).as_posix()
        content = mapping_if_readable(path)
        if not content:
            continue
        if content.get("inputs", {}).get("weights") not in (sha256, None):
            notes.append(f"{name} beside it tells of other weights, so it was not used")
            continue
        results[name.removesuffix(".json")] = content
        digests[name] = sha256_file(path)
    data = _data(pretrain)
    return Beside(pretrain, results, digests, data, tuple(notes))


def _of_benchmarks(folder: Path) -> Iterator[Path]:
    """Yield the results on the data set that was trained on, then those on further ones."""
    for place in (folder, *sorted(folder.glob("data/*"))):
        yield from (place / f"{name}.json" for name in BENCHMARKS)


def _data(pretrain: Mapping[str, Any]) -> DatasetIndex | None:
    """Return the data set that was trained on, where it is in this project folder."""
    path = None
    if digest := pretrain.get("index_sha256"):
        path = by_hash.with_index(digest)
    elif digest := pretrain.get("pictures_sha256"):
        path = by_hash.with_pictures(digest)
    try:
        return DatasetIndex.load(path.parent) if path else None
    except UserError:
        return None
