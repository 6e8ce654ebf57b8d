"""What a task asks: its train and test clips, and what each of them stands for.

Shapes: n clips, C classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import SevereTask, StoredClips
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError


@dataclass(frozen=True)
class Examples:
    """Some clips and their truth.

    For the answer `class` truth is the number of the class, int (n,), below 0 for one that train
    does not have; for `classes` 1 where a class applies, int (n, C); for `count` float (n,).
    """

    entries: tuple[ClipEntry, ...]
    truth: NDArray[Any]

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self.entries]


@dataclass(frozen=True)
class Problem:
    """A task with its clips: learn from `train` alone, score on `test` once."""

    task: SevereTask
    train: Examples
    test: Examples
    classes: tuple[str, ...]  # the columns of answers; none for counts
    lost: tuple[str, ...]  # ids of test clips that the data set has lost
    unlabelled: int  # test clips without the label
    unseen: int  # test clips of a class that train does not have: they count as wrong


def build(task: SevereTask, index: DatasetIndex) -> Problem | str:
    """Return the task on a data set, or the reason why it cannot be asked.

    Raises:
        UserError: where a clip would be both learned from and scored, or a count is no number
            above 0.
    """
    label, separator, train_splits, test_splits = _where(task)
    if set(train_splits) & set(test_splits):
        raise UserError(
            f"task {task.name!r} would be scored on clips that it learns from",
            place="severe.tasks: train and test name the same split",
        )
    train, _ = _labelled(index.clips(train_splits), label)
    test, unlabelled = _labelled(index.clips(test_splits), label)
    for name, part in (("train", train), ("test", test)):
        if not part:
            return f"no {name} clip of data set {index.name!r} has a label {label!r}"
    if task.samples is not None:
        train = few(train, label, task.samples, balanced=task.answer != "classes")
    names = [_names(task, entry.labels[label], separator) for entry in (*train, *test)]
    known = {name for of_clip in names[: len(train)] for name in of_clip}
    # Classes that only test clips have are columns, too: nothing can be learned of them, and they
    # cost what they should.
    classes = sorted(
        {name for of_clip in names for name in of_clip} if task.answer == "classes" else known
    )
    if task.answer == "class" and len(classes) < 2:
        return f"all train clips of data set {index.name!r} are of one class"
    truth = _truth(task, names, classes)
    unseen = sum(not known.issuperset(of_clip) for of_clip in names[len(train) :])
    return Problem(
        task=task,
        train=Examples(tuple(train), truth[: len(train)]),
        test=Examples(tuple(test), truth[len(train) :]),
        classes=() if task.answer == "count" else tuple(classes),
        lost=tuple(sorted(c["id"] for c in index.lost if c.get("split") in test_splits)),
        unlabelled=unlabelled,
        unseen=0 if task.answer == "count" else unseen,
    )


def few(
    entries: Sequence[ClipEntry], label: str, samples: int, *, balanced: bool
) -> list[ClipEntry]:
    """Return `samples` of these clips: always the same, whatever the order they come in.

    Clips follow one another by the hash of their ids; `balanced` takes one of each class in turn,
    so that no class has two clips more than another that has any left.
    """
    groups: dict[str, list[ClipEntry]] = {}
    for entry in sorted(entries, key=lambda entry: _digest(entry.id)):
        groups.setdefault(entry.labels[label] if balanced else "", []).append(entry)
    turns: list[tuple[int, str, ClipEntry]] = [
        (turn, name, entry) for name, group in groups.items() for turn, entry in enumerate(group)
    ]
    chosen = sorted(turns, key=lambda item: (item[0], _digest(item[1])))[:samples]
    return sorted((entry for _, _, entry in chosen), key=lambda entry: entry.id)


def _where(task: SevereTask) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    clips = task.clips
    if isinstance(clips, StoredClips):
        return clips.label, clips.separator, clips.train, clips.test
    return "label", ";", ("train",), ("test",)


def _labelled(entries: Sequence[ClipEntry], label: str) -> tuple[list[ClipEntry], int]:
    has = [entry for entry in entries if entry.labels.get(label, "").strip()]
    return has, len(entries) - len(has)


def _names(task: SevereTask, value: str, separator: str) -> list[str]:
    if task.answer == "classes":
        return [name.strip() for name in value.split(separator) if name.strip()]
    return [value.strip()]


def _truth(
    task: SevereTask, names: Sequence[Sequence[str]], classes: Sequence[str]
) -> NDArray[Any]:
    place = {name: number for number, name in enumerate(classes)}
    if task.answer == "class":
        unknown = sorted({of_clip[0] for of_clip in names} - place.keys())
        place |= {name: -number for number, name in enumerate(unknown, start=1)}
        return np.array([place[of_clip[0]] for of_clip in names], dtype=np.int64)
    if task.answer == "classes":
        truth = np.zeros((len(names), len(classes)), dtype=np.int64)
        for row, of_clip in enumerate(names):
            truth[row, [place[name] for name in of_clip]] = 1
        return truth
    return np.array([_count(task, of_clip[0]) for of_clip in names], dtype=np.float64)


def _count(task: SevereTask, text: str) -> float:
    try:
        count = float(text)
    except ValueError:
        count = math.nan
    if not (count > 0 and math.isfinite(count)):
        raise UserError(
            f"a count must be a number above 0, not {text!r}",
            place=f"the labels of task {task.name!r}",
        )
    return count


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
