"""SEVERE's metrics against torchmetrics and scikit-learn, and its mean against the paper's rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multilabel_average_precision,
)

from pipeline.evaluation.severe import columns, metrics, table


@pytest.mark.parametrize("method", table.PAPER)
def test_the_mean_is_the_papers(method: str) -> None:
    """A mean that is taken otherwise: leave the error out, or count it as it is, and none of the
    three rows comes out."""
    row = dict(table.PAPER[method])
    printed = row.pop("mean")
    assert list(row) == list(columns.COLUMNS)
    values = {
        name: value if columns.COLUMNS[name].error else value / 100 for name, value in row.items()
    }
    mean = columns.mean(values)
    assert mean is not None
    assert f"{mean:.1f}" == f"{printed}"
    for name in values:  # a mean of seven columns is no mean of eight
        assert columns.mean({key: values[key] for key in values if key != name}) is None


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 40))
def test_accuracies_are_torchmetrics(seed: int, classes: int, clips: int) -> None:
    """Means over clips where they should be over classes; classes without a test clip counted."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes, (2, clips))
    found, said = torch.from_numpy(predicted), torch.from_numpy(truth)
    micro = multiclass_accuracy(found, said, classes, average="micro")
    each = multiclass_accuracy(found, said, classes, average="none")[np.unique(truth)]
    assert metrics.top1(truth, predicted) == pytest.approx(float(micro), abs=1e-6)
    assert metrics.per_class(truth, predicted) == pytest.approx(float(each.mean()), abs=1e-6)


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(2, 40))
def test_average_precision_is_torchmetrics(seed: int, classes: int, clips: int) -> None:
    """Scores of classes averaged before ranking, or ties ranked by luck."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (clips, classes))
    truth[0, 0] = 1
    scores = rng.choice(np.linspace(0.1, 0.9, 7), truth.shape)
    expected = multilabel_average_precision(
        torch.from_numpy(scores), torch.from_numpy(truth), classes, average="none"
    )[truth.any(axis=0)].mean()
    assert metrics.average_precision(truth, scores) == pytest.approx(float(expected), abs=1e-6)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0, 11.0]), min_size=1, max_size=12), st.data())
def test_errors_are_relative_and_the_constant_is_the_best(
    counts: list[float], data: st.DataObject
) -> None:
    """An error of counts as such; and a baseline that a lucky guess beats."""
    truth = np.array(counts)
    guess = np.array([data.draw(st.floats(0.1, 20)) for _ in counts])
    expected = mean_absolute_percentage_error(truth, guess)
    assert metrics.relative_error(truth, guess) == pytest.approx(expected, rel=1e-9)
    best = metrics.best_constant(truth)
    reached = metrics.relative_error(truth, np.full_like(truth, best))
    for other in (*truth, *guess):
        assert reached <= metrics.relative_error(truth, np.full_like(truth, other)) + 1e-12


def test_an_answer_without_labels_has_no_average_precision() -> None:
    """A score of nothing, where it should be an error."""
    with pytest.raises(ValueError, match="no clip"):
        metrics.average_precision(np.zeros((3, 2), int), np.ones((3, 2)))
