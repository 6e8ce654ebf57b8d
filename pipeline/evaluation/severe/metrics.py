"""SEVERE's four metrics, and what the best constant answer scores. Shapes: n clips, C classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, recall_score

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]


def top1(truth: Ints, predicted: Ints) -> float:
    """Return the share of clips (n,) whose class is right."""
    return float(np.mean(truth == predicted))


def per_class(truth: Ints, predicted: Ints) -> float:
    """Return the mean over the classes of `truth` of the share of their clips that is right."""
    classes = np.unique(truth)
    return float(recall_score(truth, predicted, labels=classes, average="macro", zero_division=0))


def average_precision(truth: Ints, scores: Floats) -> float:
    """Return the mean over classes of the area under precision and recall.

    Args:
        truth: (n, C), 1 where a class applies.
        scores: (n, C), higher is likelier. Classes that apply to no clip are left out.
    """
    there = truth.any(axis=0)
    if not there.any():
        raise ValueError("no clip has any of the labels")
    return float(average_precision_score(truth[:, there], scores[:, there], average="macro"))


def relative_error(truth: Floats, predicted: Floats) -> float:
    """Return the mean of |predicted - true| / true over clips (n,); true counts are above 0."""
    return float(np.mean(np.abs(predicted - truth) / truth))


def best_constant(counts: Floats) -> float:
    """Return the one answer whose relative error on these counts (n,) is least.

    It is the median with weights 1 / count: the error is piecewise linear in the answer.
    """
    order = np.sort(counts)
    weights = np.cumsum(1 / order)
    return float(order[np.searchsorted(weights, weights[-1] / 2)])
