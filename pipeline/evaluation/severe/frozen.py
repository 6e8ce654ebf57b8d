"""SEVERE at small size: heads on frozen, mean-pooled features, by scikit-learn.

A class by multinomial logistic regression (`evaluation.linear`), several classes by one logistic
regression each, a count by ridge regression of its logarithm. Strengths are chosen on a part of
train that a hash of the clips' ids holds out (for counts: by leaving out one clip at a time), and
statistics come from train alone.

Shapes: n clips, D the width of a feature, C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.configuration.schema import FrozenHeads, LinearProbe
from pipeline.evaluation.recognition import linear
from pipeline.evaluation.recognition.task import Labelled, Task, held_out
from pipeline.evaluation.severe import metrics
from pipeline.evaluation.severe.problem import Problem

Features = NDArray[np.floating]


@dataclass(frozen=True)
class Answers:
    """The answers for the test clips: scores of classes (n, C), or counts (n,)."""

    values: NDArray[np.float64]
    chosen: dict[str, Any]  # hyperparameters, and how they were found


def answer(problem: Problem, train: Features, test: Features, settings: FrozenHeads) -> Answers:
    """Learn from features (n, D) of the train clips; answer for those of the test clips."""
    if problem.task.answer == "class":
        return _class(problem, train, test, settings)
    if problem.task.answer == "classes":
        return _classes(problem, train, test, settings)
    return _count(problem, train, test, settings)


def _class(problem: Problem, train: Features, test: Features, settings: FrozenHeads) -> Answers:
    # Names in the order of their numbers, so that the probe's columns are the problem's.
    names = np.array([f"{number:06d}" for number in range(len(problem.classes))])
    asked = Task(
        label=problem.task.name,
        train=Labelled(np.array(problem.train.ids), _views(train), names[problem.train.truth]),
        val=None,
        test=Labelled(
            np.array(problem.test.ids), _views(test), np.full(len(test), "", dtype=names.dtype)
        ),
        unlabelled={},
    )
    probe = LinearProbe(
        inverse_regularisation=settings.inverse_regularisation,
        max_iterations=settings.max_iterations,
    )
    prediction = linear.predict(asked, probe)
    return Answers(prediction.scores.astype(np.float64), prediction.chosen)


def _views(features: Features) -> NDArray[np.float32]:
    return features[:, None, :].astype(np.float32)


def _classes(problem: Problem, train: Features, test: Features, settings: FrozenHeads) -> Answers:
    truth = problem.train.truth
    candidates = sorted(settings.inverse_regularisation)
    # All of one group: of several classes a clip has there is none to hold out evenly.
    everything = np.zeros(len(truth), dtype=str)
    held = held_out(Labelled(np.array(problem.train.ids), train, everything))
    tried = []
    if len(candidates) > 1 and held.any() and truth[held].any():
        for c in candidates:
            scores = _one_each(c, train[~held], truth[~held], settings).predict_proba(train[held])
            tried.append([c, metrics.average_precision(truth[held], scores)])
    best = max(tried, key=lambda pair: pair[1])[0] if tried else candidates[0]
    scores = _one_each(best, train, truth, settings).predict_proba(test)
    chosen = {
        "C": best,
        "tried": tried,
        "chosen_on": "held-out train clips" if tried else "nothing",
    }
    return Answers(np.asarray(scores, dtype=np.float64), chosen)


def _one_each(c: float, features: Features, truth: Any, settings: FrozenHeads) -> Pipeline:
    heads = OneVsRestClassifier(LogisticRegression(C=c, max_iter=settings.max_iterations))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # A class that none or all of these clips have gets a constant answer.
        warnings.filterwarnings("ignore", message="Label .* is present in")
        warnings.filterwarnings("ignore", message="Label not .* is present in")
        return make_pipeline(StandardScaler(), heads).fit(features, truth)


def _count(problem: Problem, train: Features, test: Features, settings: FrozenHeads) -> Answers:
    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=list(settings.ridge)))
    probe.fit(train.astype(np.float64), np.log(problem.train.truth))
    counts = np.exp(probe.predict(test.astype(np.float64)))
    chosen = {"alpha": float(probe[-1].alpha_), "chosen_on": "train, one clip left out at a time"}
    return Answers(np.asarray(counts, dtype=np.float64), chosen)
