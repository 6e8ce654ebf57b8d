"""Masks hide the same number of tubes in every clip, and are what their kind says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips import masks, order
from pipeline.configuration.schema import Mask
from pipeline.errors import UserError

grids = st.tuples(st.integers(1, 8), st.integers(2, 14), st.integers(2, 14))
ratios = st.floats(0.26, 0.95)


@given(grids, ratios, st.integers(0, 1000))
def test_tube_masks(grid: tuple[int, int, int], ratio: float, seed: int) -> None:
    """Catches a mask that differs between frames, or hides another number than int(ratio h w)."""
    mask = Mask(kind="tube", ratio=ratio)
    hidden = masks.draw(mask, grid, order.sample_key(seed, 0, 0)).reshape(grid)
    assert hidden.dtype == np.bool_
    assert (hidden == hidden[0]).all()
    assert hidden[0].sum() == int(ratio * grid[1] * grid[2])
    assert hidden.sum() == masks.masked_count(mask, grid)


@given(grids, ratios, st.integers(0, 1000))
def test_random_masks(grid: tuple[int, int, int], ratio: float, seed: int) -> None:
    """Catches a count that varies, which would not stack to a batch."""
    mask = Mask(kind="random", ratio=ratio)
    hidden = masks.draw(mask, grid, order.sample_key(seed, 0, 0))
    assert hidden.shape == (int(np.prod(grid)),)
    assert hidden.sum() == int(ratio * hidden.size) == masks.masked_count(mask, grid)


def test_published_sizes() -> None:
    """Catches another rounding than the method's: 176 of 196 per frame, 1,408 of 1,568."""
    mask = Mask(kind="tube", ratio=0.9)
    assert masks.draw(mask, (8, 14, 14), order.sample_key(0, 0, 0)).sum() == 1408


@pytest.mark.parametrize("kind", ["tube", "random"])
def test_every_tube_is_hidden_equally_often(kind: str) -> None:
    """Catches a mask that favours places: 4,000 masks, within 5 standard deviations."""
    mask = Mask.model_validate({"kind": kind, "ratio": 0.75})
    drawn = [masks.draw(mask, (2, 4, 4), order.sample_key(0, 0, i)) for i in range(4000)]
    share = np.mean(drawn, axis=0)
    assert np.abs(share - 0.75).max() < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_masks_follow_their_key() -> None:
    """Catches global random state, and clips that all get one mask."""
    mask = Mask(kind="tube", ratio=0.5)
    drawn = [masks.draw(mask, (2, 6, 6), order.sample_key(0, 0, i)).tobytes() for i in range(50)]
    again = [masks.draw(mask, (2, 6, 6), order.sample_key(0, 0, i)).tobytes() for i in range(50)]
    assert drawn == again
    assert len(set(drawn)) == 50


@pytest.mark.parametrize("ratio", [0.2, 0.1])
def test_masks_that_hide_nothing(ratio: float) -> None:
    """Catches a loss over no tubes at all; the message must say what was counted."""
    with pytest.raises(UserError, match="hides 0 of 4 tubes"):
        masks.draw(Mask(kind="tube", ratio=ratio), (2, 2, 2), order.sample_key(0, 0, 0))
