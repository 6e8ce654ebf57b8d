"""Augmentation: a pure function of the sample, alike in all frames, of bytes."""

from __future__ import annotations

import pytest
import torch

from pipeline.configuration.schema import ClipAugmentation, ClipRandAugment, ColourJitter
from pipeline.data.load.augment import PAINT, augment

JITTER = ColourJitter(probability=1, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
ALL = ClipAugmentation(
    randaugment=ClipRandAugment(operations=2, magnitude=15), colour=JITTER, grey=0.3, erasing=0.5
)
PARTS = {
    "randaugment": ClipAugmentation(randaugment=ALL.randaugment),
    "colour": ClipAugmentation(colour=JITTER),
    "grey": ClipAugmentation(grey=1),
    "erasing": ClipAugmentation(erasing=1),
}
SAMPLES = [(0, 3), (0, 5), (1, 3), (2, 0), (2, 1), (2, 2)]


@pytest.fixture(scope="module")
def still() -> torch.Tensor:
    """Six times the same clip of the same four frames: uint8 (6,4,24,32,3)."""
    frame = torch.randint(0, 256, (24, 32, 3), dtype=torch.uint8, generator=torch.Generator())
    return frame.expand(6, 4, 24, 32, 3).contiguous()


@pytest.mark.parametrize("part", PARTS)
def test_all_frames_alike_and_clips_not(still: torch.Tensor, part: str) -> None:
    """Catches parameters that are drawn anew for each frame, once for a whole batch, or never."""
    changed = augment(still, SAMPLES, PARTS[part], seed=0)
    assert changed.shape == still.shape
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous()
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert not torch.equal(changed, still)
    if part != "grey":  # which always does the same
        assert len({clip.numpy().tobytes() for clip in changed}) > 1


def test_pure_function_of_the_sample(still: torch.Tensor) -> None:
    """Catches draws that follow the batch, the rank or torch's own generator, which must stay."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    whole = augment(still, SAMPLES, ALL, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    alone = [augment(still[i : i + 1], SAMPLES[i : i + 1], ALL, seed=0) for i in reversed(range(6))]
    assert torch.equal(torch.cat(alone[::-1]), whole)
    assert not torch.equal(augment(still, SAMPLES, ALL, seed=1), whole)


def test_erased_and_grey_are_what_they_say(still: torch.Tensor) -> None:
    """Catches erasing that spoils the rest of a clip, and colours that are left."""
    erased = augment(still, SAMPLES, PARTS["erasing"], seed=0)
    touched = (erased != still).any(-1)
    assert (erased[touched] == torch.tensor(PAINT)).all()
    assert 0.02 <= touched.float().mean() <= 0.4
    grey = augment(still, SAMPLES, PARTS["grey"], seed=0)
    assert torch.equal(grey, grey[..., :1].expand_as(grey))


@pytest.mark.parametrize("settings", [None, ClipAugmentation()])
def test_nothing_is_nothing(still: torch.Tensor, settings: ClipAugmentation | None) -> None:
    """Catches a change that nobody asked for."""
    assert augment(still, SAMPLES, settings, seed=0) is still
