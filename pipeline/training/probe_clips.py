"""The clips that online evaluation looks at: few, and the same ones for every run of a data set.

Features are asked for on clips of `val` where there are any, and answered by clips of `train`.
Where one of these splits is missing, each clip of the other is answered by the rest of it. Never is
a clip of `test` looked at.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.shards.clip_table import at, ids_of, labels_of
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError

CANDIDATES = 20_000  # clips of a split, evenly spaced, that are considered
CLIPS_PER_CLASS = 8  # at least, of each split: of many classes only so many are taken

Labels = Mapping[str, Mapping[str, str]]  # by clip, then by column


@dataclass(frozen=True)
class ProbeClips:
    """`queries` are asked about, the labels of `gallery` answer; () where the other queries do."""

    split: str  # of the queries
    queries: Sequence[ClipEntry]
    gallery: Sequence[ClipEntry]
    labels: tuple[str, ...]  # columns that are asked about


def choose(index: DatasetIndex, labels: Sequence[str] | None, count: int) -> ProbeClips | None:
    """Return at most `count` clips to ask about, and as many to answer; None where there are none.

    Which these are depends on their ids and labels alone. They are spread evenly over the classes
    of the first label: all of them, or `count` / `CLIPS_PER_CLASS` where there are more.

    Args:
        index: of the data set.
        labels: columns to ask about; None: all whose classes have two clips and more on average,
            and of which two classes or more are in every split.
        count: of clips.

    Raises:
        UserError: where no clip has one of the `labels`, or its classes are in one split alone.
    """
    splits = [split for split in ("val", "train") if index.splits.get(split)]
    if not splits:
        return None
    candidates = [_evenly_spaced(index.clips([split])) for split in splits]
    known = [labels_of(clips) for clips in candidates]
    columns = _columns(known, labels)
    first, shared = next(iter(columns.items()), ("", set[str]()))
    classes = set(sorted(shared, key=_hash)[: max(2, count // CLIPS_PER_CLASS)])
    chosen = []
    for clips, by_id in zip(candidates, known, strict=True):
        ids = list(ids_of(clips))
        if columns:
            of_class = {clip: by_id[clip].get(first, "") for clip in ids}
            taken = set(_balanced({c: k for c, k in of_class.items() if k in classes}, count))
        else:
            taken = set(sorted(ids, key=_hash)[:count])
        chosen.append(at(clips, [place for place, clip in enumerate(ids) if clip in taken]))
    return ProbeClips(splits[0], chosen[0], chosen[1] if len(chosen) > 1 else (), tuple(columns))


def _evenly_spaced(clips: Sequence[ClipEntry]) -> Sequence[ClipEntry]:
    if len(clips) <= CANDIDATES:
        return clips
    return at(clips, np.linspace(0, len(clips) - 1, CANDIDATES).astype(int).tolist())


def _columns(known: Sequence[Labels], labels: Sequence[str] | None) -> dict[str, set[str]]:
    """Return the columns to ask about, each with the classes that all splits have.

    They are the wished ones, or those that classes can be told by.
    """
    values: dict[str, list[str]] = defaultdict(list)
    for by_column in known[0].values():
        for column, value in by_column.items():
            if value:
                values[column].append(value)
    if labels is None:
        told: dict[tuple[str, ...], tuple[str, set[str]]] = {}  # `label` may be one of the others
        for column in sorted(values, key=lambda name: (name == "label", name)):
            classes, shared = {*values[column]}, _shared(known, column)
            if len(shared) >= 2 and len(classes) <= len(values[column]) / 2:
                told.setdefault(tuple(values[column]), (column, shared))
        return dict(told.values())
    asked: dict[str, set[str]] = {}
    known_columns = ", ".join(sorted(values)) or "none"
    for column in labels:
        if column not in values:
            raise UserError(
                f"no clip has a label {column!r}: the columns are {known_columns}",
                place="trainer.probe_labels",
                remedy="name columns of the list, or null for all of them, or [] for none",
            )
        asked[column] = _shared(known, column)
        if len(asked[column]) < 2:
            raise UserError(
                f"no two classes of {column!r} have clips in both val and train: neighbours cannot "
                "tell them",
                place="trainer.probe_labels",
                remedy="name other columns, or null for all that can be told, or [] for none",
            )
    return asked


def _shared(known: Sequence[Labels], column: str) -> set[str]:
    """Return the classes of a column that all splits have."""
    by_split = [{each[column] for each in by_id.values() if each.get(column)} for by_id in known]
    return set.intersection(*by_split)


def _balanced(of_class: Mapping[str, str], count: int) -> list[str]:
    """Return `count` clips, one class after the other, of each in the order of their hashes."""
    turns: dict[str, int] = defaultdict(int)
    ranked = []
    for clip in sorted(of_class, key=_hash):
        ranked.append((turns[of_class[clip]], _hash(clip), clip))
        turns[of_class[clip]] += 1
    return [clip for *_, clip in sorted(ranked)[:count]]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
