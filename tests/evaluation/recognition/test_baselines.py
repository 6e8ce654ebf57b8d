"""Grey pixels in place of features: what the two baselines are made of."""

from __future__ import annotations

import torch

from pipeline.evaluation.recognition.baselines import BINS, GREY, PARTS, SIDE, GreyMaps
from pipeline.method.pixels import normalise


def test_maps_are_of_the_middle_frame_and_of_differences_in_time() -> None:
    """Catches a wrong frame, channels in another order, and differences that cancel out."""
    videos = torch.zeros(1, 8, 2 * SIDE, 2 * SIDE, 3, dtype=torch.uint8)
    videos[0, 4, :, :SIDE, 1] = 255  # green on the left, in the middle frame alone
    values = GreyMaps()(normalise(videos))[0]
    middle, differences = (values[part] for part in PARTS.values())
    assert values.shape == (GreyMaps.width,)
    half = SIDE // 2
    picture = middle.view(SIDE, SIDE)
    torch.testing.assert_close(picture[:, :half], torch.full((SIDE, half), GREY[1]))
    assert picture[:, half:].abs().max() < 1e-5
    bins = differences.view(BINS, SIDE, SIDE)
    assert bins[0].abs().max() < 1e-5  # of seven differences, the fourth and fifth are not zero
    assert bins[1, 0, 0] > 0.1
    assert bins[2, 0, 0] > 0.1
    assert bins[:, :, half:].abs().max() < 1e-5


def test_one_frame_has_no_differences() -> None:
    """Catches a crash on images, and on clips of one frame."""
    values = GreyMaps()(torch.zeros(2, 3, 1, SIDE, SIDE))
    assert values.shape == (2, GreyMaps.width)
    assert not values[:, SIDE**2 :].any()
