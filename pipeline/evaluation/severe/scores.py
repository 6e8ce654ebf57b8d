"""The rows of SEVERE's table. Shapes: n clips, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.evaluation.metrics import missing
from pipeline.evaluation.severe import metrics
from pipeline.evaluation.severe.columns import COLUMNS
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem


class Score(BaseModel):
    """One task. `value` is a share from 0 to 1, or for `relative_error` an error (less is better).

    `of` = `scored` + `missing_clips` + `unlabelled_clips`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Literal["severe"] = "severe"
    task: str
    column: str
    axis: str
    data: str
    metric: str
    value: float
    constant: float  # what the best answer gives that is the same for every clip
    classes: int  # 0 for counts
    train_clips: int
    scored: int
    of: int  # clips of the test splits, lost ones too
    missing: list[str]  # ids of lost clips, the first ones by name
    missing_clips: int  # all of them
    unlabelled_clips: int
    unseen_clips: int  # scored, with a class that train does not have
    chosen: dict[str, Any]  # hyperparameters


def score(problem: Problem, data: str, answers: Answers) -> Score:
    """Return the row of one task; `data` is the data set's name."""
    task, test = problem.task, problem.test
    return Score(
        task=task.name,
        column=task.column,
        axis=COLUMNS[task.column].axis,
        data=data,
        metric=task.metric,
        value=_value(problem, answers),
        constant=_constant(problem),
        classes=len(problem.classes),
        train_clips=len(problem.train.entries),
        scored=len(test.entries),
        of=len(test.entries) + len(problem.lost) + problem.unlabelled,
        **missing(problem.lost),
        unlabelled_clips=problem.unlabelled,
        unseen_clips=problem.unseen,
        chosen=answers.chosen,
    )


def lines(problem: Problem, answers: Answers) -> Sequence[dict[str, Any]]:
    """Return a row per test clip: its truth, and the numbers that it was given."""
    names = np.array(problem.classes)
    rows = []
    for entry, truth, values in zip(
        problem.test.entries, problem.test.truth, answers.values, strict=True
    ):
        if problem.task.answer == "count":
            true = f"{truth:g}"
        elif problem.task.answer == "class":
            true = str(names[truth]) if truth >= 0 else ""
        else:
            true = ";".join(names[truth == 1])
        rows.append(
            {
                "task": problem.task.name,
                "id": entry.id,
                "true": true,
                "scores": np.atleast_1d(values).tolist(),
            }
        )
    return rows


def _value(problem: Problem, answers: Answers) -> float:
    truth, values = problem.test.truth, answers.values
    if problem.task.metric == "relative_error":
        return metrics.relative_error(truth, values)
    if problem.task.metric == "average_precision":
        return metrics.average_precision(truth, values)
    predicted = values.argmax(axis=1).astype(np.int64)
    return (metrics.top1 if problem.task.metric == "top1" else metrics.per_class)(truth, predicted)


def _constant(problem: Problem) -> float:
    """What an answer that never looks at the clip gives, chosen on the train clips."""
    train, test = problem.train.truth, problem.test.truth
    if problem.task.metric == "relative_error":
        return metrics.relative_error(test, np.full(len(test), metrics.best_constant(train)))
    if problem.task.metric == "average_precision":
        there = test.any(axis=0)
        return float(test[:, there].mean())
    commonest = np.full(len(test), np.bincount(train).argmax())
    chosen = metrics.top1 if problem.task.metric == "top1" else metrics.per_class
    return chosen(test, commonest)
