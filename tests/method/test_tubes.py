"""Cutting clips into tubes, and masks into indices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.build import tube_grid
from pipeline.configuration.schema import Clip
from pipeline.errors import UserError
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.tubes import TubeGrid, gather, split_mask, split_masks
from pipeline.method.vit import TubeEmbedding
from tests import small_models

SMALL = st.integers(1, 3)


@st.composite
def grids(draw: st.DrawFn) -> TubeGrid:
    tube = (draw(SMALL), draw(SMALL), draw(SMALL))
    return TubeGrid(draw(SMALL), draw(SMALL), draw(SMALL), tube)


@given(grids(), st.integers(1, 2))
def test_split_and_join_are_inverse(grid: TubeGrid, batch: int) -> None:
    """Any transposition of axes in one of the two would not come back."""
    videos = torch.randn(batch, 3, *grid.clip_shape)
    tubes = grid.split(videos)
    assert tubes.shape == (batch, grid.count, grid.pixels)
    assert torch.equal(grid.join(tubes), videos)


@given(grids(), st.floats(-2, 2))
def test_what_stands_still_is_subtracted(grid: TubeGrid, brightness: float) -> None:
    """Catches a mean over a tube, over colours or over places, and one taken of part of a clip."""
    without = replace(grid, background="subtract")
    videos = torch.randn(2, 3, *grid.clip_shape)
    still = brightness + torch.randn(2, 3, 1, *grid.clip_shape[1:])
    tubes = without.split(videos)
    torch.testing.assert_close(without.split(videos + still), tubes, rtol=0, atol=1e-5)
    differences = grid.join(tubes).diff(dim=2)
    torch.testing.assert_close(differences, videos.diff(dim=2), rtol=0, atol=1e-5)
    torch.testing.assert_close(tubes, without.split(grid.join(tubes)), rtol=0, atol=1e-5)


@given(grids())
def test_embedding_of_tubes_is_the_convolution(grid: TubeGrid) -> None:
    """The linear map of a tube's pixels must be the convolution whose weights it holds.

    Catches a wrong order of pixels or of tubes: the convolution is the oracle for both.
    """
    torch.manual_seed(0)
    embedding = TubeEmbedding(5, grid.tube)
    videos = torch.randn(2, 3, *grid.clip_shape)
    expected = embedding.proj(videos).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedding(grid.split(videos)), expected, rtol=1e-5, atol=1e-5)


def test_the_last_axis_of_a_tube_is_the_channel() -> None:
    """Targets are normalised per channel: the channel must be the fastest axis of a tube."""
    grid = TubeGrid(1, 1, 2, (2, 2, 2))
    videos = torch.arange(3.0)[None, :, None, None, None].expand(1, 3, *grid.clip_shape)
    assert torch.equal(grid.split(videos)[0, 0], torch.arange(3.0).repeat(8))


@given(grids(), st.integers(1, 2))
def test_first_frames_are_every_tubes_first(grid: TubeGrid, batch: int) -> None:
    """A frozen image transformer looks at these: another frame's features would be its targets."""
    videos = torch.randn(batch, 3, *grid.clip_shape)
    expected = videos[:, :, :: grid.tube[0]].transpose(1, 2).flatten(0, 1)
    assert torch.equal(grid.first_frames(grid.split(videos)), expected)


@given(grids())
def test_order_in_memory_does_not_matter(grid: TubeGrid) -> None:
    """Clips come with the channels of a pixel side by side; others with channels apart."""
    videos = torch.randn(2, 3, *grid.clip_shape)
    adjoining = videos.to(memory_format=torch.channels_last_3d)
    assert torch.equal(grid.split(adjoining), grid.split(videos))


def test_a_tube_that_does_not_divide_the_clip_is_refused() -> None:
    """Cutting off a rest in silence would shift every later tube."""
    clip = Clip(frames=5, stride=1, size=16, scales=(1.0,), flip=False)
    with pytest.raises(UserError, match="does not divide"):
        tube_grid(small_models.model(tube=(2, 8, 8)), clip)


@given(st.integers(1, 4), st.integers(2, 12), st.data())
def test_masks_become_ascending_indices(batch: int, count: int, data: st.DataObject) -> None:
    """Targets and predictions are paired by position: both orders must ascend, nothing lost."""
    masked = data.draw(st.integers(1, count - 1))
    mask = torch.rand(batch, count).argsort(1) < masked
    split = split_mask(mask)
    visible_indices, masked_indices = split.visible, split.predicted
    assert split.counted is None
    assert masked_indices.shape == (batch, masked)
    for row in range(batch):
        assert torch.equal(masked_indices[row], mask[row].nonzero().flatten())
        assert torch.equal(visible_indices[row], (~mask[row]).nonzero().flatten())
    tokens = torch.randn(batch, count, 3)
    assert torch.equal(gather(tokens, masked_indices).flatten(0, 1), tokens[mask])


def test_unequal_masks_are_refused() -> None:
    """Clips with different numbers of masked tubes cannot share a batch."""
    mask = torch.tensor([[True, True, False], [True, False, False]])
    with pytest.raises(ValueError, match=r"same number of visible tubes.*\[1, 2\]"):
        split_mask(mask)


@pytest.mark.parametrize("value", [True, False])
def test_masks_of_everything_or_nothing_are_refused(value: bool) -> None:
    """Without a visible or a predicted tube the loss is undefined."""
    with pytest.raises(ValueError, match="nothing to learn"):
        split_mask(torch.full((2, 4), value))


def test_tubes_may_be_dropped_or_decoded_without_a_loss() -> None:
    """Catches a dropped tube that is seen or predicted, and a loss on what the encoder saw."""
    both = VISIBLE | PREDICTED
    mask = torch.tensor([[0, VISIBLE, PREDICTED, both], [both, PREDICTED, VISIBLE, 0]])
    split = split_mask(mask.to(torch.uint8))
    assert split.visible.tolist() == [[1, 3], [0, 2]]
    assert split.predicted.tolist() == [[2, 3], [0, 1]]
    values = split.predicted[..., None]
    assert split.select(values).tolist() == [[[2]], [[1]]]
    mask[1] = torch.tensor([VISIBLE, PREDICTED, PREDICTED, VISIBLE])  # two count, of the first one
    split = split_mask(mask.to(torch.uint8))
    assert split.select(split.predicted[..., None]).flatten().tolist() == [2, 1, 2]


def test_masks_of_a_clip_are_of_kinds_in_turn() -> None:
    """Catches masks of one clip taken for those of another, and kinds that are mixed up."""
    masks = torch.zeros(2, 4, 3, dtype=torch.bool)
    for clip, place, tube in [(0, 0, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0)]:  # of the first kind
        masks[clip, place, tube] = True
    masks[:, 1::2, :2] = True  # of the second
    first, second = split_masks(masks, kinds=2)
    assert first.predicted.tolist() == [[0], [2], [1], [0]]  # both clips, then both again
    assert second.predicted.tolist() == [[0, 1]] * 4
    tubes = torch.arange(6.0).view(2, 3, 1)
    assert gather(tubes, first.predicted).flatten().tolist() == [0, 5, 1, 3]
