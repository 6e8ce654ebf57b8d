"""The linear probe: multinomial logistic regression on standardised frozen features.

The inverse strength of regularisation (C) is chosen on `val`; without a `val` split on a part of
`train` that a hash of the clips' ids holds out. Test clips are looked at once, by the final probe.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.configuration.schema import LinearProbe
from pipeline.evaluation.metrics import rank, top_k
from pipeline.evaluation.task import Labelled, Prediction, Task

HELD_OUT = 0.2  # share of each class of train, where there is no `val` split


def predict(task: Task, settings: LinearProbe) -> Prediction:
    """Fit the probe of one task and rank the classes of its test clips.

    The final probe has learned from the whole of `train`, and from nothing else.
    """
    c, found = _choose(task, settings)
    probe = _fit(task.train, c, settings.max_iterations)
    iterations = int(probe[-1].n_iter_.max())
    converged = iterations < settings.max_iterations
    chosen: dict[str, object] = {"C": c, "fitted_on": "train", "converged": converged, **found}
    return Prediction(_ranking(probe, task.test), chosen)


def _choose(task: Task, settings: LinearProbe) -> tuple[float, dict[str, object]]:
    """Return C and how it was found: the best top-1; of equals the strongest regularisation."""
    candidates = sorted(settings.inverse_regularisation)
    if task.val is not None:
        fit, judge, by = task.train, task.val, "val"
    else:
        held = held_out(task.train)
        fit, judge, by = task.train.take(~held), task.train.take(held), "held-out train clips"
    if len(candidates) == 1 or not len(judge.ids):
        c = min(candidates, key=lambda value: abs(np.log(value)))  # the closest to 1
        return c, {"chosen_on": "nothing"}
    scores = [
        top_k(_ranking(_fit(fit, c, settings.max_iterations), judge), judge.truth, 1)
        for c in candidates
    ]
    best = int(np.argmax(scores))  # the first of equals
    return candidates[best], {
        "chosen_on": by,
        "chosen_on_clips": len(judge.ids),
        "tried": [[c, score] for c, score in zip(candidates, scores, strict=True)],
    }


def held_out(train: Labelled) -> NDArray[np.bool_]:
    """Return which rows (n,) of `train` choose C: the same ids whatever the order of rows.

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


def _fit(clips: Labelled, c: float, max_iterations: int) -> Pipeline:
    """Fit mean, deviation and regression on these clips alone, in float64."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=max_iterations))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded as `converged`
        return probe.fit(clips.features.astype(np.float64), clips.truth)


def _ranking(probe: Pipeline, clips: Labelled) -> NDArray[np.str_]:
    """Rank by the logits, which, unlike probabilities, never underflow to a tie."""
    logits = probe.decision_function(clips.features.astype(np.float64))
    if logits.ndim == 1:  # two classes: scikit-learn gives the second one's alone
        logits = np.stack([-logits, logits], axis=1)
    return rank(logits, probe.classes_.astype(np.str_))
