"""Masks hide the same number of tubes in every clip, and are what their kind says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.schema.registered import OneOf
from pipeline.data.load import order
from pipeline.errors import UserError
from pipeline.method.masks import MASKS, Mask, MotionMask, RandomMask, TubeMask

grids = st.tuples(st.integers(1, 8), st.integers(2, 14), st.integers(2, 14))
ratios = st.floats(0.26, 0.95)


def following(ratio: float, share: float = 0.5) -> Mask:
    return MotionMask(ratio=ratio, share=share, contrast=8.0)


def noise(grid: tuple[int, int, int], seed: int) -> np.ndarray:
    """Frames uint8 (T,H,W,3) of tubes of 2 x 4 x 4 in which everything changes at random."""
    frames, height, width = grid
    shape = (2 * frames, 4 * height, 4 * width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(grids, ratios, st.integers(0, 1000))
def test_tube_masks(grid: tuple[int, int, int], ratio: float, seed: int) -> None:
    """Catches a mask that differs between frames, or hides another number than int(ratio h w)."""
    mask = TubeMask(ratio=ratio)
    hidden = mask.draw(grid, order.sample_rng(seed, 0, 0)).reshape(grid)
    assert hidden.dtype == np.bool_
    assert (hidden == hidden[0]).all()
    assert hidden[0].sum() == int(ratio * (grid[1] * grid[2]))


@given(grids, ratios, st.integers(0, 1000))
def test_random_masks(grid: tuple[int, int, int], ratio: float, seed: int) -> None:
    """Catches a count that varies, which would not stack to a batch."""
    mask = RandomMask(ratio=ratio)
    hidden = mask.draw(grid, order.sample_rng(seed, 0, 0))
    assert hidden.shape == (int(np.prod(grid)),)
    assert hidden.sum() == int(ratio * hidden.size)


def test_published_sizes() -> None:
    """Catches another rounding than the method's: 176 of 196 per frame, 1,408 of 1,568."""
    mask = TubeMask(ratio=0.9)
    assert mask.draw((8, 14, 14), order.sample_rng(0, 0, 0)).sum() == 1408


@pytest.mark.parametrize("mask", [TubeMask(0.75), RandomMask(0.75)])
def test_every_tube_is_hidden_equally_often(mask: Mask) -> None:
    """Catches a mask that favours places: 4,000 masks, within 5 standard deviations."""
    drawn = [mask.draw((2, 4, 4), order.sample_rng(0, 0, i)) for i in range(4000)]
    share = np.mean(drawn, axis=0)
    assert np.abs(share - 0.75).max() < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_masks_follow_their_key() -> None:
    """Catches global random state, and clips that all get one mask."""
    mask = TubeMask(ratio=0.5)
    drawn = [mask.draw((2, 6, 6), order.sample_rng(0, 0, i)).tobytes() for i in range(50)]
    again = [mask.draw((2, 6, 6), order.sample_rng(0, 0, i)).tobytes() for i in range(50)]
    assert drawn == again
    assert len(set(drawn)) == 50


@pytest.mark.parametrize("ratio", [0.2, 0.1])
def test_masks_that_hide_nothing(ratio: float) -> None:
    """Catches a loss over no tubes at all; the message must say what was counted."""
    with pytest.raises(UserError, match="hides 0 of 4 tubes"):
        TubeMask(ratio=ratio).draw((2, 2, 2), order.sample_rng(0, 0, 0))


@given(grids, ratios, st.floats(0, 0.99), st.integers(0, 1000))
def test_motion_masks_hide_as_many_as_tube_masks(
    grid: tuple[int, int, int], ratio: float, share: float, seed: int
) -> None:
    """Catches a number of masked tubes that depends on the clip: int(ratio h w) at each time."""
    mask, frames = following(ratio, share), noise(grid, seed)
    hidden = mask.draw(grid, order.sample_rng(seed, 0, 0), frames)
    again = mask.draw(grid, order.sample_rng(seed, 0, 0), frames)
    assert hidden.dtype == np.bool_
    assert np.array_equal(hidden, again)
    each = int(ratio * (grid[1] * grid[2]))
    assert hidden.reshape(grid[0], -1).sum(1).tolist() == [each] * grid[0]


@given(grids, ratios, st.integers(0, 255), st.integers(0, 1000))
def test_motion_masks_of_a_still_clip_are_tube_masks(
    grid: tuple[int, int, int], ratio: float, level: int, seed: int
) -> None:
    """Catches division by no motion at all, and masks that flicker where nothing moves."""
    still = noise((1, *grid[1:]), seed)[:1]
    still[:, : level % still.shape[1]] = level  # partly without any texture
    frames = np.repeat(still, 2 * grid[0], axis=0)
    hidden = following(ratio).draw(grid, order.sample_rng(seed, 0, 0), frames)
    hidden = hidden.reshape(grid)
    assert (hidden == hidden[0]).all()
    assert hidden[0].sum() == int(ratio * (grid[1] * grid[2]))


def test_visible_tubes_follow_the_motion() -> None:
    """Catches weights that act the wrong way, not at all, or at another time than the motion's.

    One column of tubes moves in the first half of the clip, another in the second. With weights w
    of the n tubes, of which one is visible, each is visible with probability w / sum(w).
    """
    grid, frames = (4, 2, 4), np.full((8, 16, 32, 3), 128, dtype=np.uint8)
    frames[:4, :, 0:8] = noise((2, 4, 2), 0)
    frames[4:, :, 24:32] = noise((2, 4, 2), 1)
    mask = following(0.875 + 0.001, share=0.5)  # one of eight tubes is visible
    drawn = [mask.draw(grid, order.sample_rng(0, 0, i), frames) for i in range(4000)]
    visible = 1 - np.mean(drawn, axis=0).reshape(grid)
    # Four times the mean in two of eight tubes: weight 0.5 + 0.5 x 4; 0.5 in the six others.
    moving, still = 2.5 / 8, 0.5 / 8
    tolerance = 5 * (moving * (1 - moving) / 4000) ** 0.5
    assert np.abs(visible[0][:, 0] - moving).max() < tolerance + 0.03  # noise is not quite even
    assert np.abs(visible[3][:, 3] - moving).max() < tolerance + 0.03
    assert np.abs(visible[0][:, 1:] - still).max() < tolerance
    assert np.abs(visible[3][:, :3] - still).max() < tolerance


def test_without_a_share_motion_does_not_matter() -> None:
    """Catches a share that is not the share: at 0 every tube is visible equally often."""
    grid, mask = (2, 4, 4), following(0.75, share=0)
    frames = noise(grid, 0)
    frames[:, :8] = 100
    drawn = [mask.draw(grid, order.sample_rng(0, 0, i), frames) for i in range(2000)]
    assert np.abs(np.mean(drawn, axis=0) - 0.75).max() < 5 * (0.75 * 0.25 / 2000) ** 0.5


def test_motion_needs_its_settings_and_frames() -> None:
    """Catches a mask that follows nothing, silently."""
    with pytest.raises(ValueError, match="share"):
        OneOf(MASKS)({"kind": "motion", "ratio": 0.5})
    with pytest.raises(ValueError, match="frames"):
        following(0.5).draw((2, 2, 2), order.sample_rng(0, 0, 0))
