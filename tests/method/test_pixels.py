"""Normalisation against torchvision, and there and back."""

from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional

from pipeline.method.pixels import MEAN, STD, denormalise, normalise


def test_normalise_is_torchvisions() -> None:
    """Catches swapped axes or channels and a wrong scale; oracle: torchvision, frame by frame."""
    videos = torch.randint(0, 256, (2, 3, 4, 5, 3), dtype=torch.uint8)
    ours = normalise(videos)
    assert ours.shape == (2, 3, 3, 4, 5)
    assert ours.is_contiguous(memory_format=torch.channels_last_3d)
    for b in range(2):
        for t in range(3):
            frame = functional.to_dtype(videos[b, t].permute(2, 0, 1), torch.float32, scale=True)
            expected = functional.normalize(frame, list(MEAN), list(STD))
            torch.testing.assert_close(ours[b, :, t], expected)


def test_there_and_back() -> None:
    """Catches an inverse that is none, and a normalisation in place of the caller's batch."""
    videos = torch.randint(0, 256, (1, 2, 4, 4, 3), dtype=torch.uint8)
    kept = videos.clone()
    back = denormalise(normalise(videos)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(back * 255, videos.float())
    assert torch.equal(videos, kept)
