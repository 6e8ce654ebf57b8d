"""From scores of classes to accuracies. Shapes: n clips, C classes, k places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

Names = NDArray[np.str_]

NAMES_KEPT = 50  # ids of lost clips that a score lists; their number is always given
PLACES = 5  # kept of every clip's ranking: top-5 is the deepest score that is reported


def missing(lost: Iterable[str]) -> dict[str, Any]:
    """Return what a score tells of `lost` clips: the first ids by name, and how many there are."""
    names = sorted(lost)
    return {"missing": names[:NAMES_KEPT], "missing_clips": len(names)}


def standard_error(values: Sequence[float] | NDArray[np.floating]) -> float | None:
    """Return the standard error of the mean of n values; None of fewer than two."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def rank(scores: NDArray[np.floating], classes: Names, places: int = PLACES) -> Names:
    """Return the names of the best classes of every clip, best first, as (n, places).

    Args:
        scores: (n, C); minus infinity says that a class was not named at all.
        classes: (C,), in the order of the columns.
        places: how many; places beyond C, and classes that were not named, hold "".

    Equal scores keep the order of `classes`, so that the ranking is the same everywhere.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :places]  # (n, min(C, places))
    named = np.isfinite(np.take_along_axis(scores, order, axis=1))
    ranking = np.full((len(scores), places), "", dtype=classes.dtype)
    ranking[:, : order.shape[1]] = np.where(named, classes[order], "")
    return ranking


def average(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the logarithm (n, C) of the mean over views of the softmax of logits (n, V, C)."""
    per_view = log_softmax(logits.astype(np.float64), axis=-1)
    mean = logsumexp(per_view, axis=1) - np.log(logits.shape[1])
    return np.asarray(mean, dtype=np.float32)


def top_k(ranking: Names, truth: Names, k: int) -> float:
    """Return the share (0 to 1) of clips whose true class (n,) is in the first k of (n, places)."""
    return float(np.mean((ranking[:, :k] == truth[:, None]).any(axis=1)))


def majority(train: Names, test: Names) -> float:
    """Return the share of `test` that the answer "always the commonest class of train" gets right.

    Of several commonest classes the first by name is taken.
    """
    names, counts = np.unique(train, return_counts=True)
    return float(np.mean(test == names[np.argmax(counts)]))


def per_class(truth: Names, predicted: Names) -> dict[str, dict[str, int]]:
    """Count, for every true class, its `clips` and how many of them are `right`."""
    return {
        str(name): {
            "clips": int(np.sum(truth == name)),
            "right": int(np.sum((truth == name) & (predicted == name))),
        }
        for name in np.unique(truth)
    }


def confusion(truth: Names, predicted: Names, classes: Sequence[str]) -> list[list[int]]:
    """Return counts of clips: a row per true class, a column per predicted class."""
    from sklearn.metrics import confusion_matrix  # takes a second, which others need not

    counts: list[list[int]] = confusion_matrix(truth, predicted, labels=classes).tolist()
    return counts
