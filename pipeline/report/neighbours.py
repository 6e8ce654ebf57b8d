"""What an encoder holds for alike: test clips, and the training clips nearest to them.

Distances are those of the k-NN probe: the cosine of frozen features, averaged over tubes and views.
Shapes: n clips, V views, D width of the encoder.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Clip
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.report import pictures
from pipeline.report.results import Results, RunResult
from pipeline.report.selection import evenly_spaced
from pipeline.report.strips import read_videos
from pipeline.runtime import similarity
from pipeline.runtime.pages import data_uri

QUERIES = 6  # clips of each run, the same ones for every run
NEAREST = 5  # training clips of each
FRAMES = 4  # of each clip, evenly spaced, one below the other
FRAME = 72  # pixels across, about
GAP = 3
MOST_QUERIES = 2000  # test clips that agreement is taken over
QUERY_SPLITS = ("test", "val")  # the first of these that features were taken of
TRAIN = "train"

Entries = Mapping[str, ClipEntry]  # by id


@dataclass(frozen=True)
class Neighbour:
    """A clip in a strip. `agrees` says label by label whether it has the query's value."""

    clip: str
    similarity: float | None  # cosine; None of the query itself
    labels: tuple[tuple[str, str], ...]  # label, value
    agrees: tuple[bool, ...]
    picture: str  # a data: address


@dataclass(frozen=True)
class Query:
    """A test clip and its nearest training clips, the nearest first."""

    clip: Neighbour
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class NeighbourGroup:
    """One run's strips.

    `agreement` is, label by label and over all test clips that have it, the share whose nearest
    training clip has the same value; `chance` the same of a training clip drawn at random.
    """

    run: str
    split: str  # of the queries: test, or val where test was left alone
    train_clips: int
    query_clips: int
    agreement: tuple[tuple[str, float, float], ...]  # label, share, chance
    queries: tuple[Query, ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(
            len(clip.picture) for query in self.queries for clip in (query.clip, *query.nearest)
        )

    def reduced(self, count: int) -> Self:
        """Return at most `count` of the queries."""
        return replace(self, queries=tuple(evenly_spaced(self.queries, count)))


@dataclass(frozen=True)
class Features:
    """Features of one split: `ids` and unit vectors (n, D)."""

    split: str
    ids: tuple[str, ...]
    values: NDArray[np.float32]


def neighbour_groups(results: Results) -> list[NeighbourGroup]:
    """Draw strips of every run that has features of a test and of a training split.

    Raises:
        UserError: where a clip cannot be read.
    """
    entries = {entry.id: entry for entry in results.index.clips(sorted(results.index.splits))}
    labels = results.params.data.labels
    groups = []
    drawn: dict[str, str] = {}  # pictures by id: runs share many
    for run in results.runs:
        splits = read_features(run)
        if splits is None:
            continue
        queries, train = splits
        _check_known(run, [*queries.ids, *train.ids], entries)
        places, cosines = similarity.nearest(queries.values, train.values, NEAREST)
        shown = []
        for place in evenly_spaced(_by_first_label(queries.ids, entries, labels), QUERIES):
            ids = [queries.ids[place], *(train.ids[k] for k in places[place])]
            shown.append((ids, cosines[place].tolist()))
        clips = dict.fromkeys(name for ids, _ in shown for name in ids)
        _draw([entries[name] for name in clips], results.params.data.clip, drawn)
        agreements = agreement(queries.ids, train.ids, places[:, 0], entries, labels)
        groups.append(
            NeighbourGroup(
                run.name,
                queries.split,
                len(train.ids),
                len(queries.ids),
                tuple(agreements),
                tuple(_query(ids, near, entries, labels, drawn) for ids, near in shown),
            )
        )
    return groups


def read_features(run: RunResult) -> tuple[Features, Features] | None:
    """Return unit features of test (or val) and train clips; None where the file has not both.

    Of very many test clips `MOST_QUERIES` are kept, evenly spaced.

    Raises:
        UserError: where the file cannot be read.
    """
    parts = _read(run, with_train=True)
    if parts is None or not all(part.ids for part in parts):
        return None
    queries, train = parts
    return _thinned(queries), train


def read_queries(run: RunResult) -> Features | None:
    """Return the first part of `read_features`; the other, which may be large, is not read."""
    parts = _read(run, with_train=False)
    return _thinned(parts[0]) if parts and parts[0].ids else None


def _read(run: RunResult, *, with_train: bool) -> list[Features] | None:
    path = run.layout.features
    try:
        with np.load(path, allow_pickle=False) as file:
            split = next((name for name in QUERY_SPLITS if f"{name}_ids" in file.files), "")
            if not split or f"{TRAIN}_ids" not in file.files:
                return None
            return [
                Features(s, tuple(file[f"{s}_ids"].tolist()), _unit(file[f"{s}_features"]))
                for s in ((split, TRAIN) if with_train else (split,))
            ]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"features that cannot be read: {error}",
            place=str(path),
            remedy=f"python -m pipeline evaluate {run.layout.options}",
        ) from None


def _thinned(queries: Features) -> Features:
    kept = evenly_spaced(range(len(queries.ids)), MOST_QUERIES)
    return Features(
        queries.split, tuple(queries.ids[place] for place in kept), queries.values[kept]
    )


def agreement(
    queries: Sequence[str],
    train: Sequence[str],
    nearest: NDArray[np.intp],
    entries: Entries,
    labels: Sequence[str],
) -> list[tuple[str, float, float]]:
    """Return for each label how often the nearest clip has the same value, and the chance of it.

    Args:
        queries: ids of the test clips.
        train: ids of the training clips.
        nearest: the nearest training clip of each test clip, by its place in `train`.
        entries: of both, with their labels.
        labels: whose agreement is returned, where any test clip has them.
    """
    agreements = []
    for label in labels:
        truth = [entries[name].labels.get(label) for name in queries]
        values = [entries[name].labels.get(label) for name in train]
        kept = [place for place, value in enumerate(truth) if value]
        if not kept:
            continue
        same = [truth[place] == values[nearest[place]] for place in kept]
        counts = {value: values.count(value) for value in {truth[place] for place in kept}}
        chance = sum(counts[truth[place]] for place in kept) / (len(kept) * len(values))
        agreements.append((label, sum(same) / len(same), chance))
    return agreements


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average views (n, V, D) and bring to length 1: (n, D)."""
    return similarity.unit(features.astype(np.float64).mean(axis=1)).astype(np.float32)


def _by_first_label(ids: Sequence[str], entries: Entries, labels: Sequence[str]) -> list[int]:
    """Order the clips' places by their first label, so that evenly spaced ones show many values."""
    first = labels[0] if labels else ""
    return sorted(range(len(ids)), key=lambda k: (entries[ids[k]].labels.get(first, ""), ids[k]))


def _draw(entries: Sequence[ClipEntry], clip: Clip, drawn: dict[str, str]) -> None:
    missing = [entry for entry in entries if entry.id not in drawn]
    if not missing:
        return
    for entry, video in zip(missing, read_videos(missing, clip), strict=True):
        frames = [pictures.fit(frame, FRAME) for frame in evenly_spaced(list(video), FRAMES)]
        drawn[entry.id] = data_uri(pictures.stack(frames, GAP))


def _query(
    ids: Sequence[str],
    cosines: Sequence[float],
    entries: Entries,
    labels: Sequence[str],
    drawn: Mapping[str, str],
) -> Query:
    """Describe a test clip, the first of `ids`, and its neighbours, the others."""
    own = entries[ids[0]].labels
    shown = [label for label in labels if own.get(label)]

    def neighbour(name: str, cosine: float | None) -> Neighbour:
        values = entries[name].labels
        return Neighbour(
            name,
            cosine,
            tuple((label, values.get(label, "")) for label in shown),
            tuple(values.get(label) == own[label] for label in shown),
            drawn[name],
        )

    nearest = tuple(neighbour(*each) for each in zip(ids[1:], cosines, strict=True))
    return Query(neighbour(ids[0], None), nearest)


def _check_known(run: RunResult, ids: Sequence[str], entries: Mapping[str, ClipEntry]) -> None:
    if unknown := next((name for name in ids if name not in entries), None):
        raise UserError(
            f"features of a clip that the data set has not: {unknown}",
            place=str(run.layout.features),
            remedy=f"python -m pipeline evaluate {run.layout.options}",
        )
