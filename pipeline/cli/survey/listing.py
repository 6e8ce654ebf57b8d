"""The clips of a list or a folder, and which of their files are probed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.survey.probing import Probe
from pipeline.data.manifest import members, video_list
from pipeline.data.manifest.annotations import subfolders
from pipeline.data.manifest.annotations.files import MULTI, id_of
from pipeline.data.manifest.folders import videos_in
from pipeline.data.manifest.rows import Row, hash_of
from pipeline.data.records import Outcome
from pipeline.errors import UserError

MOST_COLUMNS = 4  # of labels that are shown
KINDS = {"url": "at an address", "youtube_id": "on YouTube", "synthetic": "to be drawn"}


@dataclass(frozen=True)
class Listing:
    """The rows of a list or a folder, and what is to be said of how they were read."""

    rows: Sequence[Row]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassCount:
    """The classes of one column in one split."""

    column: str
    split: str
    clips: int
    classes: int
    fewest: int  # clips of a class
    most: int
    unseen: tuple[str, ...]  # classes that have no training clip


def listing_of(source: Path) -> Listing:
    """Return the clips of a CSV, or of a folder of videos; its sub-folders are the labels.

    Raises:
        UserError: the list cannot be used, or the folder holds no video.
    """
    if not source.is_dir():
        return Listing(video_list.read(source))
    try:
        clips = subfolders.read(source, 1)
        return Listing(
            [_row(clip.id, source / clip.name, clip.label, clip.split) for clip in clips]
        )
    except UserError as error:  # labels are missing; what the videos are can be told all the same
        contents = videos_in(source)
        if not contents.videos:
            raise UserError(
                "there is no video in this folder",
                place=str(source),
                remedy=f"passed over: {contents.note}" if contents.note else "",
            ) from None
        rows = [_row(id_of(str(path.relative_to(source))), path) for path in contents.videos]
        remedy = f" ({error.remedy})" if error.remedy else ""
        return Listing(rows, (f"no labels: {error.problem}{remedy}",))


def _row(clip_id: str, path: Path, label: str = "", split: str = "train") -> Row:
    return Row(clip_id, str(path), "", "", "", None, None, label, split, "", {})


def passed_over(rows: Iterable[Row]) -> dict[str, int]:
    """Count the rows that are not in files of this machine, by where they are."""
    return dict(Counter(place for row in rows if (place := _elsewhere(row))))


def _elsewhere(row: Row) -> str:
    kind, value = row.source
    return KINDS.get(kind, "in an archive" if members.split(value) else "")


def sampled(rows: Iterable[Row], most: int) -> dict[Path, list[Row]]:
    """Return at most `most` local files with their rows: those whose first id's hash is least."""
    files: defaultdict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        if not _elsewhere(row):
            files[Path(row.path)].append(row)
    order = sorted(files, key=lambda path: hash_of(min(row.id for row in files[path])))
    return {path: files[path] for path in order[:most]}


def clip_seconds(files: dict[Path, list[Row]], probes: dict[Path, Probe]) -> list[float]:
    """Return the durations of the clips in the files that can be read, where they are known."""
    durations = []
    for path, rows in files.items():
        if probes[path].outcome is not Outcome.OK:
            continue
        for row in rows:
            ends = [end for end in (row.end, probes[path].seconds or None) if end is not None]
            if ends and (seconds := min(ends) - (row.start or 0.0)) > 0:
                durations.append(seconds)
    return durations


def class_counts(rows: Sequence[Row]) -> list[ClassCount]:
    """Count classes by column and split; a column with a value for nearly each clip is no label."""
    counts = []
    columns = ["label", *(rows[0].extra if rows else ())]
    for column in columns[:MOST_COLUMNS]:
        by_split: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            by_split[row.split].update(filter(None, row.column(column).split(MULTI)))
        classes = set().union(*by_split.values())
        if not classes or (column != "label" and len(classes) > len(rows) / 2):
            continue
        counts += [_class_count(column, split, by_split) for split in sorted(by_split, key=_place)]
    return counts


def _place(split: str) -> int:
    return video_list.SPLITS.index(split)


def _class_count(column: str, split: str, by_split: dict[str, Counter[str]]) -> ClassCount:
    of_split = by_split[split]
    numbers = of_split.values() or (0,)
    unseen = sorted(of_split.keys() - by_split.get("train", Counter()).keys())
    return ClassCount(
        column, split, of_split.total(), len(of_split), min(numbers), max(numbers), tuple(unseen)
    )
