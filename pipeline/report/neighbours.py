"""What an encoder holds for alike: test clips, and the training clips nearest to them.

Distances are those of the k-NN probe: the cosine of frozen features, averaged over tubes and views.
Letters: n clips, V views, D width of the encoder.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Clip
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.report import pictures
from pipeline.report.gallery import spread
from pipeline.report.results import Results, RunResult
from pipeline.report.strips import read_videos

QUERIES = 6  # clips that are scored, the same ones for every run
NEAREST = 5  # training clips of each
FRAMES = 4  # of each clip, evenly spaced, one below the other
FRAME = 72  # pixels across, about
GAP = 3
BLOCK = 256  # test clips compared at a time
ASKED_MOST = 2000  # test clips that are looked at
ASKED = ("test", "val")  # the first of these that features were taken of
SEARCHED = "train"


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
    found: tuple[Neighbour, ...]


@dataclass(frozen=True)
class NeighbourGroup:
    """One run's strips.

    `agreement` is, label by label and over all test clips that have it, the share whose nearest
    training clip has the same value; `chance` the same of a training clip drawn at random.
    """

    run: str
    split: str  # of the clips that are asked about: test, or val where test was left alone
    searched: int  # training clips
    asked: int  # test clips
    agreement: tuple[tuple[str, float, float], ...]  # label, share, chance
    queries: tuple[Query, ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(
            len(each.picture) for query in self.queries for each in (query.clip, *query.found)
        )


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
        both = read_features(run)
        if both is None:
            continue
        asked, searched = both
        _check_known(run, [*asked.ids, *searched.ids], entries)
        nearest, cosines = search(asked.values, searched.values)
        chosen = spread(_ordered(asked.ids, entries, labels), QUERIES)
        wanted = [asked.ids[place] for place in chosen]
        wanted += [searched.ids[k] for place in chosen for k in nearest[place]]
        _draw([entries[i] for i in dict.fromkeys(wanted)], results.params.data.clip, drawn)
        groups.append(
            NeighbourGroup(
                run.name,
                asked.split,
                len(searched.ids),
                len(asked.ids),
                tuple(agreement(asked.ids, searched.ids, nearest[:, 0], entries, labels)),
                tuple(
                    _query(
                        asked.ids[place],
                        [searched.ids[k] for k in nearest[place]],
                        cosines[place].tolist(),
                        entries,
                        labels,
                        drawn,
                    )
                    for place in chosen
                ),
            )
        )
    return groups


def search(
    asked: NDArray[np.float32], searched: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the places of the nearest rows, (n, NEAREST), nearest first, and their cosines.

    Both are unit vectors, (n, D) and (m, D); of fewer than NEAREST rows all are returned.
    """
    places, cosines = [], []
    for begin in range(0, len(asked), BLOCK):
        similarity = asked[begin : begin + BLOCK] @ searched.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
        places.append(order)
        cosines.append(np.take_along_axis(similarity, order, axis=1))
    return np.concatenate(places), np.concatenate(cosines)


def within(groups: Sequence[NeighbourGroup], limit: int) -> list[NeighbourGroup]:
    """Show fewer clips of each run where the pictures together exceed `limit` bytes."""
    for shown in range(QUERIES, 0, -1):
        kept = [replace(each, queries=tuple(spread(each.queries, shown))) for each in groups]
        if sum(each.size for each in kept) <= limit:
            return kept
    return []


def read_features(run: RunResult) -> tuple[Features, Features] | None:
    """Return unit features of test (or val) and train clips; None where the file has not both.

    Of very many asked clips `ASKED_MOST` are kept, evenly spaced.

    Raises:
        UserError: where the file cannot be read.
    """
    path = run.layout.features
    try:
        with np.load(path, allow_pickle=False) as file:
            asked = next((split for split in ASKED if f"{split}_ids" in file.files), "")
            if not asked or f"{SEARCHED}_ids" not in file.files:
                return None
            found = [
                Features(s, tuple(file[f"{s}_ids"].tolist()), _unit(file[f"{s}_features"]))
                for s in (asked, SEARCHED)
            ]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"features that cannot be read: {error}",
            place=str(path),
            remedy=f"python -m pipeline evaluate --run {run.name}",
        ) from None
    if not all(len(each.ids) for each in found):
        return None
    kept = spread(range(len(found[0].ids)), ASKED_MOST)
    ids = tuple(found[0].ids[place] for place in kept)
    return Features(found[0].split, ids, found[0].values[kept]), found[1]


def agreement(
    asked: Sequence[str],
    searched: Sequence[str],
    nearest: NDArray[np.int64],
    entries: Mapping[str, ClipEntry],
    labels: Sequence[str],
) -> list[tuple[str, float, float]]:
    """Return for each label how often the nearest clip has the same value, and the chance of it.

    Args:
        asked: ids of the test clips.
        searched: ids of the training clips.
        nearest: the nearest training clip of each test clip, by its place in `searched`.
        entries: of both, with their labels.
        labels: whose agreement is asked.
    """
    found = []
    for label in labels:
        truth = [entries[i].labels.get(label) for i in asked]
        values = [entries[i].labels.get(label) for i in searched]
        kept = [place for place, value in enumerate(truth) if value]
        if not kept:
            continue
        same = [truth[place] == values[nearest[place]] for place in kept]
        counts = {value: values.count(value) for value in {truth[place] for place in kept}}
        chance = sum(counts[truth[place]] for place in kept) / (len(kept) * len(values))
        found.append((label, sum(same) / len(same), chance))
    return found


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average views (n, V, D) and bring to length 1: (n, D)."""
    mean = features.astype(np.float64).mean(axis=1)
    length = np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return np.asarray(mean / length, dtype=np.float32)


def _ordered(
    ids: Sequence[str], entries: Mapping[str, ClipEntry], labels: Sequence[str]
) -> list[int]:
    """Places of the clips by their first label, so that what is spread over them shows many."""
    first = labels[0] if labels else ""
    return sorted(range(len(ids)), key=lambda k: (entries[ids[k]].labels.get(first, ""), ids[k]))


def _draw(entries: Sequence[ClipEntry], clip: Clip, drawn: dict[str, str]) -> None:
    missing = [entry for entry in entries if entry.id not in drawn]
    if not missing:
        return
    for entry, video in zip(missing, read_videos(missing, clip), strict=True):
        frames = [pictures.fit(frame, FRAME) for frame in spread(list(video), FRAMES)]
        drawn[entry.id] = pictures.data_uri(pictures.stack(frames, GAP))


def _query(
    asked: str,
    nearest: Sequence[str],
    cosines: Sequence[float],
    entries: Mapping[str, ClipEntry],
    labels: Sequence[str],
    drawn: Mapping[str, str],
) -> Query:
    own = entries[asked].labels
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

    found = tuple(neighbour(*each) for each in zip(nearest, cosines, strict=True))
    return Query(neighbour(asked, None), found)


def _check_known(run: RunResult, ids: Sequence[str], entries: Mapping[str, ClipEntry]) -> None:
    if unknown := next((name for name in ids if name not in entries), None):
        raise UserError(
            f"features of a clip that the data set has not: {unknown}",
            place=str(run.layout.features),
            remedy=f"python -m pipeline evaluate --run {run.name}",
        )
