"""Crops lie within the frame, keep their orientation, and scale as PIL does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation

from pipeline.data.load import crops, order
from pipeline.evaluation.training_clips import seeded
from tests import small_models

sides = st.integers(16, 400)
scale_lists = st.lists(st.floats(0.3, 1), min_size=1, max_size=4)


@given(sides, sides, scale_lists, st.integers(0, 1000))
def test_windows_lie_within(height: int, width: int, scales: list[float], seed: int) -> None:
    """Catches a window beyond the edge, and sides that are no listed share of the short side."""
    window = crops.multi_scale(height, width, scales, order.sample_rng(seed, 0, 0))
    assert window.top >= 0
    assert window.left >= 0
    assert window.top + window.height <= height
    assert window.left + window.width <= width
    allowed = [int(min(height, width) * scale) for scale in scales]
    assert window.height in allowed
    assert window.width in allowed


SHARES = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted)
RATIOS = st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted)


@given(sides, sides, SHARES, RATIOS, st.integers(0, 2**32 - 1))
def test_random_areas_are_those_of_timm(
    height: int, width: int, area: list[float], aspect: list[float], seed: int
) -> None:
    """Catches swapped sides, another distribution, and what is taken where no rectangle fits."""
    window = crops.random_area(height, width, (*area,), (*aspect,), seed=seed)
    frame = Image.new("L", (width, height))
    with seeded(seed):
        theirs = RandomResizedCropAndInterpolation.get_params(frame, area, aspect)
    assert (window.top, window.left, window.height, window.width) == theirs


@given(st.integers(0, 2**32 - 1))
def test_random_areas_keep_to_their_ranges(seed: int) -> None:
    """Catches a range of sides in place of areas, and windows beyond the edge (V-JEPA's ranges)."""
    clip = small_models.clip(crop={"area": (0.3, 1.0), "aspect": (0.75, 1.35)})
    window = crops.pretraining_window(256, 340, clip, order.sample_rng(seed, 0, 0))
    assert 0.29 < window.height * window.width / (256 * 340) <= 1
    assert 0.74 < window.width / window.height < 1.36
    assert 0 <= window.top <= 256 - window.height
    assert 0 <= window.left <= 340 - window.width


def test_a_crop_is_checked_and_left_out_where_absent() -> None:
    """Catches ranges that are turned round or beyond the frame, unknown keys, and a key that makes
    clips of before others than they were."""
    crop = {"area": [0.3, 1.0], "aspect": [0.75, 1.35]}
    assert small_models.clip(crop=crop).model_dump(mode="json")["crop"] == crop
    assert "crop" not in small_models.clip().model_dump(mode="json")
    for changes in ({"area": [1.0, 0.3]}, {"area": [0.3, 1.1]}, {"ratio": [1, 2]}):
        with pytest.raises(ValueError, match="crop"):
            small_models.clip(crop=crop | changes)


def test_all_places_and_pairs_are_drawn() -> None:
    """Catches a corner that is never seen: 13 places times 10 pairs of neighbouring scales."""
    scales = (1.0, 0.875, 0.75, 0.66)
    drawn = {crops.multi_scale(256, 340, scales, order.sample_rng(0, 0, i)) for i in range(4000)}
    pairs = {(window.height, window.width) for window in drawn}
    rank = {int(256 * scale): i for i, scale in enumerate(scales)}
    assert len(pairs) == 10
    assert all(abs(rank[height] - rank[width]) <= 1 for height, width in pairs)
    assert len({(w.top, w.left) for w in drawn if (w.height, w.width) == (192, 192)}) == 13


@given(sides, sides, st.integers(1, 5))
def test_views_cover_the_long_side(height: int, width: int, count: int) -> None:
    """Catches views that leave an end of the frame unseen, or are no squares."""
    windows = crops.along_long_side(height, width, count)
    short = min(height, width)
    assert len(windows) == count
    assert {(window.height, window.width) for window in windows} == {(short, short)}
    offsets = [window.top + window.left for window in windows]
    assert all((window.top == 0) or (window.left == 0) for window in windows)
    if count == 1:
        assert offsets == [abs(height - width) // 2]
    else:
        assert (offsets[0], offsets[-1]) == (0, abs(height - width))
        assert max(np.diff(offsets)) - min(np.diff(offsets)) <= 1


def test_same_size_changes_no_pixel() -> None:
    """Catches a resampling that blurs where there is nothing to scale."""
    video = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    window = crops.Window(top=3, left=5, height=16, width=16)
    part = video[:, 3:19, 5:21]
    assert np.array_equal(crops.cut(video, window, 16), part)
    assert np.array_equal(crops.cut(video, window, 16, flip=True), part[:, :, ::-1])


@pytest.mark.parametrize("window", [(0, 0, 64, 64), (5, 7, 48, 40), (10, 3, 20, 26)])
def test_scaling_is_that_of_pil(window: tuple[int, int, int, int]) -> None:
    """Catches swapped axes, a shift by half a pixel and missing antialiasing; oracle: PIL."""
    video = np.random.default_rng(1).integers(0, 256, (2, 64, 80, 3), dtype=np.uint8)
    top, left, height, width = window
    ours = crops.cut(video, crops.Window(*window), 32)
    assert ours.shape == (2, 32, 32, 3)
    assert ours.flags.c_contiguous
    for frame, scaled in zip(video, ours, strict=True):
        image = Image.fromarray(frame).crop((left, top, left + width, top + height))
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(scaled.astype(int) - expected).max() <= 2  # grey levels, from rounding
