"""Masks of other methods: equal counts, reproducible from the sample's random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.configuration.schema.registered import OneOf
from pipeline.data.load import order, trajectories
from pipeline.errors import UserError
from pipeline.method import motion
from pipeline.method.masks import (
    MASKS,
    AdaptiveMask,
    AttentionMask,
    DualMask,
    FlowMask,
    Mask,
    NoiseMask,
    RandomVisibleMask,
    RedundancyMask,
)
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.masks.structured_noise import band_pass, white_noise
from pipeline.method.masks.trajectory import hide_objects, object_tubes

even = st.sampled_from((2, 4, 6, 10, 14))
grids = st.tuples(st.integers(2, 8), even, even)
ratios = st.floats(0.3, 0.74)


def frames_of(grid: tuple[int, int, int], seed: int) -> np.ndarray:
    """Frames uint8 (T,H,W,3) of tubes of 2 x 4 x 4 in which everything changes at random."""
    shape = (2 * grid[0], 4 * grid[1], 4 * grid[2], 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(grids, ratios, st.integers(0, 1000))
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "random_visible"},
        {"kind": "flow", "contrast": 8.0},
        {"kind": "noise", "space": (0.5, 1.0), "time": (0.5, 1.0)},
        {"kind": "noise", "space": (0.0, 2.0), "time": (0.0, 0.0), "each_time": True},
        {"kind": "dual", "decoder_ratio": 0.5},
        {"kind": "redundancy", "drop": 0.2},
        {"kind": "attention"},
        {"kind": "adaptive"},
        {"kind": "trajectory"},
    ],
    ids=lambda settings: settings["kind"],
)
def test_masks_stack_and_are_drawn_again(
    settings: dict[str, object], grid: tuple[int, int, int], ratio: float, seed: int
) -> None:
    """Catches counts that depend on the clip, and random numbers that are not the sample's."""
    mask: Mask = OneOf(MASKS)(settings | {"ratio": ratio})
    drawn = [
        mask.draw(grid, order.sample_rng(seed, 0, clip), frames_of(grid, clip))
        for clip in (0, 0, 1)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert drawn[0].shape == drawn[2].shape
    if mask.in_model:
        return
    for role in (VISIBLE, PREDICTED):
        counts = [int(roles(each, role).sum()) for each in drawn]
        assert counts[0] == counts[2] > 0


def roles(mask: np.ndarray, role: int) -> np.ndarray:
    """Where a mask gives a tube this role."""
    if mask.dtype == np.bool_:
        return mask if role == PREDICTED else ~mask
    return mask & role > 0


def test_published_counts() -> None:
    """Catches another rounding than each method's: of 1,568 tubes of 16 frames of 224."""
    grid, rng = (8, 14, 14), order.sample_rng(0, 0, 0)
    assert (~RandomVisibleMask(0.9).draw(grid, rng)).sum() == 156
    dual = DualMask(0.9, 0.5).draw(grid, rng)
    assert roles(dual, VISIBLE).sum() == 8 * 20
    assert roles(dual, PREDICTED).sum() == 784
    still = np.zeros((16, 224, 224, 3), np.uint8)
    assert (~FlowMask(0.9, contrast=8.0).draw(grid, rng, still)).sum() == 8 * 19
    noise = RedundancyMask(0.9, 0.7).draw(grid, rng)
    split = RedundancyMask(0.9, 0.7).select(
        torch.rand(1, 1568, 4), torch.from_numpy(noise)[None], grid
    )
    assert (split.visible.shape[1], split.predicted.shape[1]) == (156, 314)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "redundancy", "ratio": 0.5, "drop": 0.5},
        {"kind": "noise", "ratio": 0.5, "space": (1.0, 1.0), "time": (0.0, 1.0)},
        {"kind": "noise", "ratio": 0.5, "space": (0.5, 1.0), "time": (1.0, 0.5)},
    ],
)
def test_masks_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    """Catches a selection of which nothing is predicted, and filters that cancel."""
    with pytest.raises(ValueError, match=r"predict|wider"):
        OneOf(MASKS)(settings)


def test_a_running_cell_needs_an_even_number_of_tubes() -> None:
    """Catches batches that do not stack: in odd frames counts depend on the start."""
    with pytest.raises(UserError, match="running cell"):
        DualMask(0.5, 0.5).draw((2, 3, 4), order.sample_rng(0, 0, 0))


@given(
    st.integers(1, 3), even, even, ratios, st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 99)
)
def test_tubes_that_are_seen_need_not_be_decoded(
    turns: int, height: int, width: int, ratio: float, decoder_ratio: float, seed: int
) -> None:
    """Catches counts that differ between clips, and a tube that is decoded though it is seen."""
    mask, grid = DualMask(ratio, decoder_ratio, decode_visible=False), (4 * turns, height, width)
    drawn = [mask.draw(grid, order.sample_rng(seed, 0, clip)) for clip in range(4)]
    hidden = int(ratio * (height * width))
    for each in drawn:
        assert not (roles(each, VISIBLE) & roles(each, PREDICTED)).any()
        assert roles(each, VISIBLE).sum() == 4 * turns * (height * width - hidden)
        assert roles(each, PREDICTED).sum() == hidden * turns * (4 - int(4 * decoder_ratio))
    with pytest.raises(UserError, match="turns of the cell"):
        mask.draw((4 * turns + 2, height, width), order.sample_rng(seed, 0, 0))


@given(st.integers(2, 6), st.integers(2, 16), st.integers(0, 1000))
def test_a_selection_is_of_each_clip_alone(times: int, places: int, seed: int) -> None:
    """Catches a selection that depends on the other clips, or does not keep what changes most."""
    torch.manual_seed(seed)
    grid, mask = (times, places, 1), RedundancyMask(0.74, 0.4)
    count = times * places
    embeddings = torch.randn(3, count, 5)
    drawn = [mask.draw(grid, order.sample_rng(seed, 0, clip)) for clip in range(3)]
    noise = torch.from_numpy(np.stack(drawn))
    whole = mask.select(embeddings, noise, grid)
    alone = mask.select(embeddings[1:2], noise[1:2], grid)
    assert torch.equal(whole.visible[1:2], alone.visible)
    assert torch.equal(whole.predicted[1:2], alone.predicted)
    kept = torch.cat((whole.visible, whole.predicted), dim=1)
    assert all(len(set(row)) == len(row) == int((1 - 0.4) * count) for row in kept.tolist())


@given(st.integers(2, 6), st.integers(2, 16), st.integers(0, 1000))
def test_tubes_are_drawn_by_their_probabilities(times: int, places: int, seed: int) -> None:
    """Catches draws that depend on the other clips, and tubes that are shown although the network
    finds all others far more probable."""
    torch.manual_seed(seed)
    grid, mask = (times, places, 1), AdaptiveMask(0.7)
    count = times * places
    logits = torch.randn(3, count)
    favoured = torch.randperm(count)[: int(count * (1 - 0.7))]
    logits[1, favoured] += 50
    noise = torch.from_numpy(
        np.stack([mask.draw(grid, order.sample_rng(seed, 0, clip)) for clip in range(3)])
    )
    whole, alone = mask.select(logits, noise, grid), mask.select(logits[1:2], noise[1:2], grid)
    for part, other in zip(whole[:2], alone[:2], strict=True):
        assert torch.equal(part[1:2], other)
    assert torch.equal(alone.visible[0], favoured.sort().values)
    both = torch.cat((whole.visible, whole.predicted), dim=1)
    assert torch.equal(both.sort(1).values, torch.arange(count).expand(3, -1))
    assert whole.log_probabilities is not None
    expected = logits.softmax(1).clamp(torch.finfo(torch.float32).eps).log()
    torch.testing.assert_close(whole.log_probabilities, expected.gather(1, whole.predicted))


@given(st.integers(1, 4), st.integers(2, 16), st.integers(0, 1000))
def test_attention_is_of_each_clip_alone(times: int, places: int, seed: int) -> None:
    """Catches a draw that depends on the other clips, or hides unequally many at some time."""
    generator = torch.Generator().manual_seed(seed)
    grid, mask = (times, places, 1), AttentionMask(0.5)
    attention = torch.rand(3, times * places, generator=generator)
    drawn = [mask.draw(grid, order.sample_rng(seed, 0, clip)) for clip in range(3)]
    noise = torch.from_numpy(np.stack(drawn))
    whole = mask.select(attention, noise, grid)
    alone = mask.select(attention[1:2], noise[1:2], grid)
    assert torch.equal(whole.visible[1:2], alone.visible)
    both = torch.cat((whole.visible, whole.predicted), dim=1).sort(1).values
    assert torch.equal(both, torch.arange(times * places).expand(3, -1))
    assert (whole.predicted.diff(dim=1) > 0).all()
    hidden = torch.zeros_like(attention).scatter(1, whole.predicted, 1.0)
    assert (hidden.view(3, times, places).sum(2) == places // 2).all()


def test_what_is_attended_to_is_likelier_seen() -> None:
    """Catches a draw that turns the attention round, or does not follow it."""
    grid, mask = (1, 8, 1), AttentionMask(0.75)
    drawn = [mask.draw(grid, order.sample_rng(0, 0, clip)) for clip in range(400)]
    attention = torch.tensor([8.0, 1, 1, 1, 1, 1, 1, 1]).expand(400, -1)
    split = mask.select(attention, torch.from_numpy(np.stack(drawn)), grid)
    counts = torch.bincount(split.visible.flatten(), minlength=8)
    assert counts[0] > 2 * counts[1:].max()


def test_noise_is_of_its_band() -> None:
    """Catches filters of the wrong axes, and a low-pass where a band was asked for."""
    grid = (8, 32, 32)
    power = np.zeros(grid)
    for index in range(50):
        noise = band_pass(white_noise(grid, order.sample_rng(0, 0, index)), (1.0, 2.0), (0.0, 0.0))
        power += np.abs(np.fft.fftn(noise)) ** 2
    radius = np.sqrt(np.fft.fftfreq(32)[:, None] ** 2 + np.fft.fftfreq(32) ** 2)
    across = power.mean(axis=0)
    band = across[(radius > 0.08) & (radius < 0.18)].mean()
    assert across[0, 0] < 0.01 * band
    assert across[radius > 0.4].mean() < 0.01 * band
    along = power[:, (radius > 0.08) & (radius < 0.18)].mean(axis=1)
    assert along.max() < 2 * along.min()  # of time no filter


def test_noise_masks_are_smooth() -> None:
    """Catches masks that are as ragged as random ones: neighbours agree more often."""
    grid, mask = (8, 14, 14), NoiseMask(0.75, (0.5, 1.5), (0.5, 1.5))
    hidden = np.stack([mask.draw(grid, order.sample_rng(0, 0, i)).reshape(grid) for i in range(30)])
    for axis in (1, 2, 3):
        first, second = (
            np.take(hidden, range(k, hidden.shape[axis] - 1 + k), axis) for k in (0, 1)
        )
        assert (first == second).mean() > 0.75**2 + 0.25**2 + 0.05


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_flow_is_where_things_came_from(right: int, down: int) -> None:
    """Catches a flow of the wrong direction, axis or unit: a texture that moves by whole pixels."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.random((192, 192)), 6, mode="wrap")
    texture = 255 * (texture - texture.min()) / np.ptp(texture)
    shown = [np.roll(texture, (down * t, right * t), (0, 1))[32:160, 32:160] for t in range(4)]
    frames = np.stack(shown)[..., None].repeat(3, -1).astype(np.uint8)
    flow = motion.flow(frames, (2, 8, 8), contrast=1.0)
    assert flow.shape == (3, 2, 128, 128)
    middle = flow[:, :, 16:-16, 16:-16].mean(axis=(0, 2, 3))
    assert np.abs(middle - (-right, -down)).max() < 0.35 * max(abs(right), abs(down)) + 0.1


@given(st.integers(1, 3), st.integers(0, 1000))
def test_objects_stay_near_the_frame(objects: int, seed: int) -> None:
    """Catches centres outside of the frame, empty boxes, and draws that are not the sample's."""
    settings = trajectories.TrajectorySettings()
    drawn = [
        trajectories.draw_trajectories(settings, objects, 16, 224, order.sample_rng(seed, 0, 0))
        for _ in range(2)
    ]
    assert np.array_equal(drawn[0].boxes, drawn[1].boxes)
    boxes = drawn[0].boxes
    assert boxes.shape == (objects, 16, 4)
    assert drawn[0].angles.shape == (objects, 16)
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert middles.min() >= 0
    assert middles.max() < 224
    assert (boxes[..., 2:] > boxes[..., :2]).all()


@given(st.integers(0, 1000), st.floats(0.2, 0.9), st.floats(0, 1))
def test_objects_do_not_change_the_count(seed: int, ratio: float, shown: float) -> None:
    """Catches clips whose number of hidden tubes depends on how large their objects are."""
    grid, rng = (8, 14, 14), order.sample_rng(seed, 0, 0)
    tube = MASKS["tube"](ratio).draw(grid, rng)
    drawn = trajectories.draw_trajectories(trajectories.TrajectorySettings(), 2, 16, 224, rng)
    boxes = np.round(drawn.boxes).astype(np.int64)
    objects = object_tubes(boxes, grid, (2, 16, 16))
    hidden = hide_objects(tube, objects, shown, (rng.random(1568), rng.random(1568)))
    assert hidden.sum() == tube.sum()
