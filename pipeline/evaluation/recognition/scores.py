"""A row of the table: what a probe reached, and on how many clips of how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.evaluation import metrics
from pipeline.evaluation.recognition.task import Prediction, Task

TOP5_FROM = 6  # classes: of fewer, top-5 says whether a probe names all classes, and little else
CLASSES_SHOWN = 64  # up to as many classes `details` holds a confusion matrix


class Score(BaseModel):
    """Top-1 and top-5 as shares from 0 to 1 of the `scored` clips of `split`.

    `of` = `scored` + `missing_clips` + `unlabelled_clips`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    probe: str
    split: str
    top1: float
    top5: float | None  # None of five classes or fewer, of which it says nothing
    chance: float  # 1 / classes
    majority: float  # the answer "always the commonest class of train"
    constant: str | None = None  # the answer, where it is the same one for every clip
    classes: int  # that the probe can answer
    train_clips: int
    scored: int
    of: int  # rows of the split in the source manifest, lost clips too
    missing: list[str]  # ids of lost clips, the first ones by name
    missing_clips: int  # all of them
    unlabelled_clips: int  # of the split, without this label
    unseen_clips: int  # scored, as wrong: train does not have their class
    chosen: dict[str, Any]  # hyperparameters

    @property
    def asked(self) -> str:
        """On how many clips of how many, and which of the split were not asked about."""
        what = f"{self.scored:,} of {self.scored + self.missing_clips:,} {self.split} clips"
        if not self.unlabelled_clips:
            return what
        return f"{what} with this label, {self.unlabelled_clips:,} more without it"


class Skipped(BaseModel):
    """A probe that was not run (`clips` is 0), or clips that it could not do justice to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    probe: str
    reason: str
    clips: int = 0


def score(task: Task, probe: str, prediction: Prediction, lost: Sequence[str]) -> Score:
    """Return the row of one probe on one task; `lost` are the ids of lost clips of its split."""
    return _score(task, probe, prediction, lost, task.split)


def score_beside(
    task: Task, probe: str, prediction: Prediction, lost: Sequence[str]
) -> Score | None:
    """Return the row on `val`, where it is scored beside test; `lost` are ids of val clips."""
    if task.beside is None or prediction.beside is None:
        return None
    swapped = replace(task, test=task.beside)
    return _score(swapped, probe, replace(prediction, scores=prediction.beside), lost, "val")


def _score(
    task: Task, probe: str, prediction: Prediction, lost: Sequence[str], split: str
) -> Score:
    truth, ranking, classes = task.test.truth, prediction.ranking, len(task.classes)
    unlabelled = task.unlabelled.get(split, 0)
    answered = np.unique(ranking[:, 0])
    return Score(
        label=task.label,
        probe=probe,
        split=split,
        top1=metrics.top_k(ranking, truth, 1),
        top5=metrics.top_k(ranking, truth, 5) if classes >= TOP5_FROM else None,
        chance=1 / classes,
        majority=metrics.majority(task.train.truth, truth),
        constant=str(answered[0]) if len(answered) == 1 and len(truth) > 1 else None,
        classes=classes,
        train_clips=len(task.train.ids),
        scored=len(truth),
        of=len(truth) + unlabelled + len(lost),
        **metrics.missing(lost),
        unlabelled_clips=unlabelled,
        unseen_clips=int(np.isin(truth, task.unseen).sum()),
        chosen=prediction.chosen,
    )


def left_out(task: Task, probe: str) -> list[Skipped]:
    """Return what must be said of clips that carry no label, or one that train does not know."""
    notes = []
    for split, clips in task.unlabelled.items():
        reason = f"{clips} clips of split '{split}' have no label '{task.label}': left out"
        notes.append(Skipped(label=task.label, probe=probe, reason=reason, clips=clips))
    if task.unseen:
        clips = int(np.isin(task.test.truth, task.unseen).sum())
        names = ", ".join(task.unseen[:5]) + (", ..." if len(task.unseen) > 5 else "")
        reason = (
            f"{clips} {task.split} clips are of classes that train does not have: wrong ({names})"
        )
        notes.append(Skipped(label=task.label, probe=probe, reason=reason, clips=clips))
    alone = np.unique(task.test.truth)
    if len(alone) == 1:
        clips = len(task.test.truth)
        reason = (
            f"all {clips} {task.split} clips are of one class, '{alone[0]}': the score says how "
            "often it is answered"
        )
        notes.append(Skipped(label=task.label, probe=probe, reason=reason, clips=clips))
    return notes


def details(task: Task, probe: str, prediction: Prediction) -> dict[str, Any]:
    """Return counts per class and, where it stays readable, the confusion matrix."""
    truth, predicted = task.test.truth, prediction.ranking[:, 0]
    classes = np.union1d(task.classes, truth).tolist()
    body: dict[str, Any] = {"label": task.label, "probe": probe, "split": task.split}
    body["per_class"] = metrics.per_class(truth, predicted)
    if len(classes) <= CLASSES_SHOWN:
        body["classes"] = classes
        body["confusion"] = metrics.confusion(truth, predicted, classes)
    return body
