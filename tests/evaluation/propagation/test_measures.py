"""J and F: against numbers of DAVIS's own code, and against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from pipeline.evaluation.propagation.measures import (
    boundary,
    boundary_accuracy,
    region_similarity,
    statistics,
)
from pipeline.evaluation.propagation.scores import score_objects

# Means over the nine frames of `blobs`, by object: J and F as the functions db_eval_iou and
# f_measure of davis2017-evaluation (commit 30b698a) give them, run on these very masks.
RECORDED = {
    (48, 85): ((0.617613277983883, 0.4830355928063368), (0.4574318129138424, 0.3792192894299043)),
    (120, 214): (
        (0.6152522403835499, 0.3373600808182697),
        (0.45240873182818575, 0.2521668264706707),
    ),
    (480, 854): (
        (0.6162005560276189, 0.2921384693700164),
        (0.4532088208649324, 0.22032826375460882),
    ),
}


def blobs(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Masks (9,H,W) of two objects that wobble and move; another seed, other masks."""
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((9, height, width), np.uint8)
    for t, mask in enumerate(masks):
        for number, (cy, cx, r) in enumerate([(0.4, 0.3, 0.2), (0.6, 0.7, 0.15)], 1):
            py = height * (cy + 0.03 * np.sin(t + seed + number))
            px = width * (cx + 0.04 * np.cos(t * 0.7 + seed * number))
            wobble = 1 + 0.2 * np.sin(3 * np.arctan2(y - py, x - px) + t + seed)
            mask[np.hypot(y - py, x - px) < r * min(height, width) * wobble] = number
    return masks


@pytest.mark.parametrize("size", RECORDED)
def test_numbers_are_those_of_davis(size: tuple[int, int]) -> None:
    """Catches another tolerance, boundaries on the other side of a pixel, void that counts, and
    another answer where one mask or both are empty."""
    truth, answer = blobs(0, *size), blobs(1, *size)
    truth[3, : size[0] // 2, size[1] // 2 : size[1] // 2 + 9] = 255
    answer[6][answer[6] == 2] = 0
    truth[7][truth[7] == 1] = 0
    for number, recorded in zip((1, 2), RECORDED[size], strict=True):
        counts = truth != 255
        pairs = [
            ((truth[k] == number) & counts[k], (answer[k] == number) & counts[k]) for k in range(9)
        ]
        means = [
            np.mean([measure(*pair) for pair in pairs])
            for measure in (region_similarity, boundary_accuracy)
        ]
        assert means == pytest.approx(recorded, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(3, 40))
def test_near_is_within_a_dilation_by_a_disk(seed: int, height: int, width: int) -> None:
    """Catches a distance other than a disk's (oracle: dilation of both boundaries)."""
    rng = np.random.default_rng(seed)
    truth, answer = (rng.random((height, width)) < rng.random() for _ in range(2))
    own, other, disk = (
        boundary(answer),
        boundary(truth),
        np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]),
    )
    expected = float(own.any() == other.any())
    if own.any() and other.any():
        precision = (own & binary_dilation(other, disk)).sum() / own.sum()
        recall = (other & binary_dilation(own, disk)).sum() / other.sum()
        both = precision + recall
        expected = 2 * precision * recall / both if both else 0.0
    assert boundary_accuracy(truth, answer) == pytest.approx(expected, abs=1e-12)


def test_a_boundary_may_be_off_by_the_tolerance_and_no_more() -> None:
    """Catches a tolerance in other units: 0.008 of a diagonal of 500 are 4 pixels."""
    truth = np.zeros((300, 400), bool)
    truth[100:200, 100:200] = True
    for shift, expected in ((0, 1.0), (4, 1.0), (5, 0.5)):
        moved = np.roll(truth, shift, axis=1)
        assert boundary_accuracy(truth, moved) == pytest.approx(expected, abs=0.03)
    assert region_similarity(truth, np.roll(truth, 50, axis=1)) == pytest.approx(1 / 3)


def test_statistics_are_those_of_quarters_that_share_a_frame() -> None:
    """Catches quarters that do not meet, and a recall that counts a half. By hand: of nine frames
    the quarters are 1-3, 3-5, 5-7 and 7-9."""
    values = np.array([0.9, 0.6, 0.6, 0.5, 0.5, 0.4, 0.3, 0.3, 0.0])
    found = statistics(values)
    assert found.mean == pytest.approx(4.1 / 9)
    assert found.recall == pytest.approx(3 / 9)
    assert found.decay == pytest.approx(0.7 - 0.2)
    assert statistics(np.array([0.7])) == (0.7, 1.0, 0.0)


def test_the_first_and_the_last_frame_do_not_count() -> None:
    """Catches a score of the mask that was given, and objects taken for one another."""
    truth = blobs(0, 40, 60)
    answer = truth.copy()
    answer[[0, -1]] = 0
    assert [(each.j, each.f) for each in score_objects(truth, answer, (1, 2))] == [(1, 1)] * 2
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    assert [each.j for each in score_objects(truth, swapped, (1, 2))] == [0, 0]
