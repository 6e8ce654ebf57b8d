"""The linear probe: multinomial logistic regression on standardised frozen features.

Or, with another solver, a linear layer trained by gradient descent (`evaluation.heads`).

The inverse strength of regularisation (C) is chosen on `val`; without a `val` split on a part of
`train` that a hash of the clips' ids holds out. Test clips are looked at once, by the final probe.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import LinearProbe
from pipeline.evaluation.metrics import average, rank, top_k
from pipeline.evaluation.recognition.task import Labelled, Prediction, Task, predicted

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def predict(task: Task, settings: LinearProbe) -> Prediction:
    """Fit the probe of one task and score the classes of its test clips.

    The final probe has learned from the whole of `train`, and from nothing else. Each view of a
    train clip counts as a clip; the answers to a test clip's views are averaged.
    """
    c, notes = _choose(task, settings)
    probe = _fit(task.train, c, settings.max_iterations)
    iterations = int(probe[-1].n_iter_.max())
    converged = iterations < settings.max_iterations
    chosen: dict[str, object] = {"C": c, "fitted_on": "train", "converged": converged, **notes}
    names = probe.classes_.astype(np.str_)
    return predicted(task, lambda clips: _scores(probe, clips), names, chosen)


def _choose(task: Task, settings: LinearProbe) -> tuple[float, dict[str, object]]:
    """Return C and how it was found: the best top-1; of equals the strongest regularisation."""
    candidates = sorted(settings.inverse_regularisation)
    fit, judge, by = task.selection
    if len(candidates) == 1 or not len(judge.ids):
        c = min(candidates, key=lambda value: abs(np.log(value)))  # the closest to 1
        return c, {"chosen_on": "nothing"}
    scores = [_top1(_fit(fit, c, settings.max_iterations), judge) for c in candidates]
    best = int(np.argmax(scores))  # the first of equals
    return candidates[best], {
        "chosen_on": by,
        "chosen_on_clips": len(judge.ids),
        "tried": [[c, score] for c, score in zip(candidates, scores, strict=True)],
    }


def _fit(clips: Labelled, c: float, max_iterations: int) -> Pipeline:
    """Fit mean, deviation and regression on these clips alone, in float64."""
    from sklearn.exceptions import ConvergenceWarning  # takes seconds, which other probes need not
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=max_iterations))
    views = clips.features.shape[1]
    rows, truth = clips.features.astype(np.float64), np.repeat(clips.truth, views)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded as `converged`
        return probe.fit(rows.reshape(-1, rows.shape[-1]), truth)


def _top1(probe: Pipeline, clips: Labelled) -> float:
    names = probe.classes_.astype(np.str_)
    return top_k(rank(_scores(probe, clips), names), clips.truth, 1)


def _scores(probe: Pipeline, clips: Labelled) -> NDArray[np.float32]:
    """Return the logarithms (n, C) of the classes' probabilities, averaged over views."""
    n, views, width = clips.features.shape
    logits = probe.decision_function(clips.features.astype(np.float64).reshape(-1, width))
    if logits.ndim == 1:  # two classes: scikit-learn gives the log-odds of the second one
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    return average(logits.reshape(n, views, -1))
