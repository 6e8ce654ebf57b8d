"""Rankings and accuracies against scikit-learn, and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from pipeline.evaluation import metrics


@st.composite
def scored(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
    """Scores (n, C) without ties, the names of classes (C,), the truth (n,)."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(3, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = np.array([f"class {k}" for k in range(classes)])
    return rng.normal(size=(n, classes)), names, names[rng.integers(0, classes, n)]


@given(scored(), st.integers(1, 5))
def test_top_k_is_scikit_learns(
    case: tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]], k: int
) -> None:
    """Catches a wrong order, an off-by-one in k, and columns that do not go with their names."""
    scores, names, truth = case
    ours = metrics.top_k(metrics.rank(scores, names), truth, k)
    if k >= len(names):
        assert ours == 1
    else:
        assert ours == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=names))


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    """Catches a ranking that depends on the sorting algorithm, thus on the machine."""
    names = np.array([f"{k:02d}" for k in range(40)])
    assert metrics.rank(np.zeros((1, 40)), names).tolist() == [["00", "01", "02", "03", "04"]]


def test_a_class_without_a_score_is_not_named() -> None:
    """Catches top-5 being flattered by classes that nobody voted for."""
    scores = np.array([[0.2, -np.inf, 0.8, -np.inf]])
    ranking = metrics.rank(scores, np.array(["a", "b", "c", "d"]))
    assert ranking.tolist() == [["c", "a", "", "", ""]]
    assert metrics.top_k(ranking, np.array(["b"]), 5) == 0


def test_majority_learns_from_train_alone() -> None:
    """Catches the commonest class of test, or the first class, being taken."""
    train, test = np.array(["a", "b", "b"]), np.array(["a", "a", "a", "b"])
    assert metrics.majority(train, test) == 0.25


@given(scored())
def test_counts_agree_with_top_1(
    case: tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]],
) -> None:
    """Catches a transposed confusion matrix and per-class counts that lose clips."""
    scores, names, truth = case
    ranking = metrics.rank(scores, names)
    matrix = np.array(metrics.confusion(truth, ranking[:, 0], names.tolist()))
    counts = metrics.per_class(truth, ranking[:, 0])
    right = metrics.top_k(ranking, truth, 1) * len(truth)
    assert matrix.trace() == pytest.approx(right)
    assert sum(count["right"] for count in counts.values()) == pytest.approx(right)
    for place, name in enumerate(names):
        assert matrix[place].sum() == np.sum(truth == name)
        assert matrix[:, place].sum() == np.sum(ranking[:, 0] == name)
        assert counts.get(str(name), {"clips": 0})["clips"] == np.sum(truth == name)
