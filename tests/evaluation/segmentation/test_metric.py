"""Mean IoU after matching: against scikit-learn, and by its own laws. Recorded numbers of the
reference are in tests/parity."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from pipeline.evaluation.segmentation import metric

Labels = NDArray[np.int64]


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Ground truth of 1 to 4 classes, any numbers, and 1 to 5 segments; few pixels, many ties."""
    pixels = draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes = rng.choice(9, size=draw(st.integers(1, 4)), replace=False)
    return rng.choice(classes, pixels), rng.integers(0, draw(st.integers(1, 5)), pixels)


def sklearn_miou(truth: Labels, named: Labels) -> float:
    classes = np.unique(truth)
    return float(jaccard_score(truth, named, labels=classes, average="macro", zero_division=0))


@given(segmentations())
def test_scores_are_scikit_learns_jaccard_of_the_named_segments(
    case: tuple[Labels, Labels],
) -> None:
    """An intersection over union of one's own that differs from everybody's, and pictures whose
    colours are not those that were scored."""
    truth, segments = case
    for matching in ("hungarian", "greedy_many_to_one"):
        named = metric.named(truth, segments, matching=matching)
        score = metric.mean_iou(truth, segments, matching=matching)
        assert score == pytest.approx(sklearn_miou(truth, named), abs=1e-12)
        assert set(named.tolist()) <= {*truth.tolist(), metric.BACKGROUND}


@given(segmentations())
def test_hungarian_matching_is_the_best_of_all(case: tuple[Labels, Labels]) -> None:
    """A matching that is not one to one, or not the best: all of them are tried here."""
    truth, segments = case
    classes, found = np.unique(truth), np.unique(segments)

    def iou(class_: int, segment: int) -> float:
        a, b = truth == class_, segments == segment
        return float((a & b).sum() / (a | b).sum())

    short, long = sorted((classes.tolist(), found.tolist()), key=len)
    by_class = len(short) == len(classes)
    best = max(
        sum(iou(a, b) if by_class else iou(b, a) for a, b in zip(short, order, strict=True))
        for order in permutations(long, len(short))
    )
    named = metric.named(truth, segments, matching="hungarian")
    owners = {int(s): int(named[segments == s][0]) for s in found}
    pairs = [(c, s) for s, c in owners.items() if c in classes]
    reached: dict[int, float] = {}
    for class_, segment in pairs:  # left-over segments are background: the best one was matched
        reached[class_] = max(reached.get(class_, 0.0), iou(class_, segment))
    assert sum(reached.values()) >= best - 1e-9


@given(segmentations(), st.randoms(use_true_random=False))
def test_names_of_segments_do_not_matter(case: tuple[Labels, Labels], random: object) -> None:
    """A score that depends on which number k-means happens to give a cluster."""
    truth, segments = case
    renamed = np.array([17, 3, 90, 41, 0])[segments]
    for matching in ("hungarian", "greedy_many_to_one"):
        a = metric.mean_iou(truth, segments, matching=matching)
        if matching == "greedy_many_to_one":
            assert metric.mean_iou(truth, renamed, matching=matching) == pytest.approx(a, abs=1e-12)
        assert metric.mean_iou(truth, truth, matching=matching) == 1.0
