"""The official annotation files of public data sets, read as clips; one module per family.

`DATA_SETS` names what `python -m pipeline manifest NAME --annotations DIR` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.data.manifest.annotations import (
    charades,
    diving48,
    finegym,
    hmdb51,
    kinetics,
    path_labels,
    something,
    subfolders,
    ucf101,
)
from pipeline.data.manifest.annotations.files import Clip


@dataclass(frozen=True)
class DataSet:
    """How a data set is read, and how its video files are called below `--videos`.

    `files` are patterns of names; where the folder is there, the first that exists is taken.
    """

    read: Callable[[Path, int], Iterator[Clip]]  # folder of the annotations, fold
    files: tuple[str, ...] = ("{name}",)
    folds: int = 1
    columns: tuple[str, ...] = ()  # further columns of the list
    in_place: bool = False  # the videos lie where the annotations say


def _gym(name: str) -> DataSet:
    files = ("{name}.mp4", "{name}.avi", "{youtube_id}.mp4")
    return DataSet(partial(finegym.read, name), files, columns=finegym.COLUMNS)


_KINETICS = DataSet(
    kinetics.read,
    ("{split}/{name}.mp4", "{split}/{label}/{name}.mp4", "{label}/{name}.mp4", "{name}.mp4"),
)

DATA_SETS = {
    "kinetics400": _KINETICS,
    "kinetics600": _KINETICS,
    "kinetics700": _KINETICS,
    "ssv2": DataSet(something.read, ("{name}.webm", "20bn-something-something-v2/{name}.webm")),
    "ucf101": DataSet(ucf101.read, ("{name}", "UCF-101/{name}"), folds=3),
    "hmdb51": DataSet(
        hmdb51.read, ("{label}/{name}", "{label}.rar!/{label}/{name}", "{name}"), folds=3
    ),
    "gym99": _gym("gym99"),
    "gym288": _gym("gym288"),
    "fx-s1": _gym("fx-s1"),
    "ub-s1": _gym("ub-s1"),
    "charades": DataSet(
        charades.read, ("{name}.mp4", "Charades_v1_480/{name}.mp4"), columns=charades.COLUMNS
    ),
    "diving48": DataSet(diving48.read, ("{name}.mp4", "rgb/{name}.mp4")),
    "path-label": DataSet(path_labels.read, in_place=True),
    "folder": DataSet(subfolders.read, in_place=True),
}
