"""What a probe is asked: one label, the clips that carry it, and why some or all cannot be used.

Shapes: n clips, V views of each, D the width of a feature, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.metrics import Names, rank

HELD_OUT = 0.2  # share of each class of train, where there is no `val` split


@dataclass(frozen=True)
class Labelled:
    """Clips of one split that carry the label: `ids` and `truth` (n,), `features` (n, V, D)."""

    ids: Names
    features: NDArray[np.float32]
    truth: Names

    @property
    def pooled(self) -> NDArray[np.float64]:
        """Features averaged over views (n, D)."""
        return np.asarray(self.features.astype(np.float64).mean(axis=1))

    def take(self, rows: NDArray[np.bool_]) -> Labelled:
        """Return the rows for which `rows` (n,) is true."""
        return Labelled(self.ids[rows], self.features[rows], self.truth[rows])


@dataclass(frozen=True)
class Task:
    """One classification problem. Learn from `train`, choose on `val`, score on `test`.

    `val` is None where the data set has no such split, or none of its clips carries the label.
    `test` are the clips of the split that is scored, which `split` names: under
    `evaluation.test=false` they are those of `val`.
    """

    label: str
    train: Labelled
    val: Labelled | None
    test: Labelled
    unlabelled: dict[str, int]  # clips per split that lack the label and are left out
    split: str = "test"

    @property
    def classes(self) -> Names:
        """The classes that a probe can answer: those of `train`, sorted."""
        return np.unique(self.train.truth)

    @property
    def unseen(self) -> list[str]:
        """Classes of `test` that `train` does not have: their clips count as wrong."""
        return sorted(set(self.test.truth.tolist()) - set(self.classes.tolist()))

    @property
    def selection(self) -> tuple[Labelled, Labelled, str]:
        """What to learn from and what to judge by, to choose hyperparameters; and the judge's name.

        The judge is `val`, or a part of `train` where there is none.
        """
        if self.val is not None:
            return self.train, self.val, "val"
        held = held_out(self.train)
        return self.train.take(~held), self.train.take(held), "held-out train clips"

    @property
    def beside(self) -> Labelled | None:
        """The clips of `val`, where they are scored beside those of `test`."""
        return self.val if self.split != "val" else None


def held_out(train: Labelled) -> NDArray[np.bool_]:
    """Return which rows (n,) of `train` choose hyperparameters: the same ids in whatever order.

    Of every class the fifth with the smallest hashes of their ids, rounded down; at least one,
    unless it is the only one. So every class has clips left to learn from.
    """
    held = np.zeros(len(train.ids), dtype=bool)
    hashes = np.array([hashlib.sha256(str(clip).encode()).hexdigest() for clip in train.ids])
    for name in np.unique(train.truth):
        rows = np.flatnonzero(train.truth == name)
        if len(rows) > 1:
            count = max(1, int(HELD_OUT * len(rows)))
            held[rows[np.argsort(hashes[rows], kind="stable")[:count]]] = True
    return held


@dataclass(frozen=True)
class Prediction:
    """What a probe answers on `task.test`.

    `scores` (n, C) are logarithms of probabilities, which, unlike these, never underflow to a
    tie; minus infinity is a class that was not named at all. `classes` (C,) are the columns.
    `beside` are the scores on `task.beside`.
    """

    scores: NDArray[np.float32]
    classes: Names
    chosen: dict[str, object]  # hyperparameters, and how they were found
    beside: NDArray[np.float32] | None = None

    @property
    def ranking(self) -> Names:
        """The best classes of every clip, (n, 5), best first; "" is no answer."""
        return rank(self.scores, self.classes)


def predicted(
    task: Task,
    scores: Callable[[Labelled], NDArray[np.float32]],
    classes: Names,
    chosen: dict[str, object],
) -> Prediction:
    """Answer all that is asked; `scores` gives those of some clips, (n, C)."""
    beside = None if task.beside is None else scores(task.beside)
    return Prediction(scores(task.test), classes, chosen, beside)


def build(
    label: str,
    labels: Mapping[str, Mapping[str, str]],
    features: Mapping[str, SplitFeatures],
    split: str = "test",
) -> Task | str:
    """Return the task of one label, or the reason why there is none.

    Args:
        label: a column of the manifest.
        labels: every clip's labels by column, by the clip's id; an empty label is a missing one.
        features: by split.
        split: the one that is scored.
    """
    parts = features.values()
    if broken := sum(int((~np.isfinite(part.values)).any(axis=(1, 2)).sum()) for part in parts):
        return f"the features of {broken:,} clips are not finite: the encoder is broken"
    labelled = {split: _labelled(label, labels, part) for split, part in features.items()}
    if not any(len(part.ids) for part in labelled.values()):
        return f"no clip has a label '{label}' (a column of the manifest; see data.labels)"
    for name in ("train", split):
        if name not in features:
            return f"there is no clip in split '{name}'"
        if not len(labelled[name].ids):
            return f"no clip of split '{name}' has a label '{label}'"
    train, val, test = labelled["train"], labelled.get("val"), labelled[split]
    task = Task(
        label=label,
        train=train,
        val=val if val is not None and len(val.ids) else None,
        test=test,
        unlabelled={
            name: missing
            for name, part in features.items()
            if (missing := len(part.ids) - len(labelled[name].ids))
        },
        split=split,
    )
    if len(task.classes) < 2:
        return f"all train clips with a label '{label}' are of one class, '{task.classes[0]}'"
    if not np.isin(test.truth, task.classes).any():
        return f"train has none of the classes of label '{label}' in {split}"
    return task


def missing(
    split: str, lost: Mapping[str, str], features: Mapping[str, SplitFeatures]
) -> list[str]:
    """Return the clips of a split that the data set has lost, or whose features are not there.

    `lost` has the split of every clip that the data set has lost, by id.
    """
    failed = features[split].failed if split in features else ()
    return [*(clip for clip, its in lost.items() if its == split), *failed]


def _labelled(label: str, labels: Mapping[str, Mapping[str, str]], part: SplitFeatures) -> Labelled:
    truth = np.array([labels[clip].get(label, "") for clip in part.ids], np.str_)
    return Labelled(np.array(part.ids, np.str_), part.values, truth).take(truth != "")
