"""Frame indices stay in the clip, keep their stride, and hold the last frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.load import order, sampling

frames = st.integers(1, 300)
lengths = st.integers(1, 32)
strides = st.integers(1, 8)


@given(frames, lengths, strides, st.integers(0, 1000))
def test_random_views(frames: int, length: int, stride: int, seed: int) -> None:
    """Catches an index outside the clip, a broken stride, and a late start of a short clip."""
    drawn = sampling.dense_random(frames, length, stride, order.sample_rng(seed, 0, 0))
    assert drawn.shape == (length,)
    assert drawn[0] >= 0
    assert drawn[-1] <= frames - 1
    ideal = drawn[0] + stride * np.arange(length)
    assert np.array_equal(drawn, np.minimum(ideal, frames - 1))
    if (length - 1) * stride + 1 <= frames:
        assert np.array_equal(drawn, ideal)
    else:
        assert drawn[0] == 0


def test_every_start_is_drawn() -> None:
    """Catches an off-by-one that never shows the first or the last frame."""
    starts = {
        int(sampling.dense_random(10, 3, 2, order.sample_rng(0, 0, i))[0]) for i in range(200)
    }
    assert starts == set(range(6))


@given(frames, lengths, strides, st.integers(1, 10))
def test_centred_views(frames: int, length: int, stride: int, segments: int) -> None:
    """Catches views outside the clip, out of order, or nearer to one end than to the other."""
    views = sampling.dense_centred(frames, length, stride, segments)
    assert views.shape == (segments, length)
    assert views.min() >= 0
    assert views.max() <= frames - 1
    starts = views[:, 0]
    assert (np.diff(starts) >= 0).all()
    last = max(0, frames - (length - 1) * stride - 1)
    assert abs(int(starts[0]) - (last - int(starts[-1]))) <= 1


@pytest.mark.parametrize(
    ("frames", "segments", "expected"),
    [(7, 1, [3]), (8, 1, [4]), (10, 5, [1, 3, 5, 7, 9]), (3, 1, [1])],
)
def test_centres_of_single_frames(frames: int, segments: int, expected: list[int]) -> None:
    """Catches a centre that is not the centre; the numbers are counted by hand."""
    assert sampling.dense_centred(frames, 1, 1, segments)[:, 0].tolist() == expected


@given(frames, lengths, st.one_of(st.none(), st.integers(0, 1000)))
def test_one_frame_per_segment(frames: int, length: int, seed: int | None) -> None:
    """Catches a frame from another segment than its own."""
    if seed is None:
        drawn = sampling.per_segment_centred(frames, length, 1)[0]
    else:
        drawn = sampling.per_segment(frames, length, order.sample_rng(seed, 0, 0))
    assert drawn.shape == (length,)
    edges = np.arange(length + 1) * frames / length
    assert (drawn >= np.floor(edges[:-1])).all()
    assert (drawn < np.maximum(edges[1:], np.floor(edges[:-1]) + 1)).all()


@pytest.mark.parametrize(
    ("frames", "length", "views", "expected"),
    [
        (16, 4, 1, [[2, 6, 10, 14]]),
        (16, 4, 2, [[1, 5, 9, 13], [3, 7, 11, 15]]),
        (3, 4, 1, [[0, 1, 1, 2]]),
    ],
)
def test_views_of_segments(frames: int, length: int, views: int, expected: list[list[int]]) -> None:
    """Catches views that are all alike, or not in the middle; the numbers are counted by hand."""
    assert sampling.per_segment_centred(frames, length, views).tolist() == expected
