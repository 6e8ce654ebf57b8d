"""Targets made of pixels: normalised, bland tubes and all, and shown again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.method.pixels import STD, by_channel
from pipeline.method.targets import MlpTarget, PixelTarget
from pipeline.method.targets.projection import normalised_pixels
from pipeline.method.tubes import TubeGrid

GRID = TubeGrid.from_size(4, 8, 8, (2, 4, 4))  # 8 tubes of 32 pixels
MASKED = torch.tensor([[0, 3, 6], [1, 2, 7]])


def tubes_of(deviation: float, seed: int) -> Tensor:
    """Tubes 2,N,P whose pixels from 0 to 1 have about that deviation, as ImageNet normalises."""
    noise = torch.randn(2, GRID.count, GRID.pixels // 3, 3, generator=torch.manual_seed(seed))
    return (deviation * noise / by_channel(STD, noise.device)).flatten(-2)


def test_pixel_targets_are_normalised_per_tube_and_channel() -> None:
    """Unbiased variance, of pixels from 0 to 1; and a flat tube gives zeros, not infinities."""
    generator = torch.Generator().manual_seed(0)
    tubes = torch.randn(2, 5, 16 * 3, generator=generator)
    tubes[0, 0] = 0.25
    targets = normalised_pixels(tubes).reshape(2, 5, 16, 3)
    assert torch.equal(targets[0, 0], torch.zeros(16, 3))
    torch.testing.assert_close(targets.mean(2), torch.zeros(2, 5, 3), rtol=0, atol=1e-5)
    deviation = targets.std(2, unbiased=True)[0, 1:]
    torch.testing.assert_close(deviation, torch.ones(4, 3), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "make", [lambda s: PixelTarget(stabiliser=s), lambda s: MlpTarget((8,), 4, s)]
)
def test_noise_of_bland_tubes_vanishes_beside_the_stabiliser(make: object) -> None:
    """Coding noise of a thousandth of the range counts as an edge does, or not at all."""
    edge, bland = tubes_of(0.2, 0), tubes_of(0.001, 0)
    for stabiliser, share in ((1e-6, 0.99), (0.05, 0.03)):
        target = make(stabiliser).build(GRID)  # type: ignore[operator]
        network = getattr(target, "network", torch.nn.Identity())
        flat = network(torch.zeros(GRID.pixels))
        lengths = [torch.linalg.vector_norm(target(t, MASKED) - flat) for t in (bland, edge)]
        ratio = float(lengths[0] / lengths[1])
        assert ratio > share if stabiliser < 0.01 else ratio < share


@given(
    normalise=st.sampled_from(["channel", "tube", "none"]),
    stabiliser=st.floats(1e-6, 0.5),
    deviation=st.floats(0.01, 0.3),
    seed=st.integers(0, 99),
)
def test_the_pictures_of_a_perfect_prediction_are_the_pixels(
    normalise: str, stabiliser: float, deviation: float, seed: int
) -> None:
    """What the report shows of a prediction undoes just what was done to the target."""
    settings = PixelTarget(normalise, stabiliser=stabiliser if normalise == "channel" else 1e-6)  # type: ignore[arg-type]
    target = settings.build(GRID)
    tubes = tubes_of(deviation, seed)
    values = tubes.gather(1, MASKED[..., None].expand(-1, -1, GRID.pixels))
    shown = target.restored(target(tubes, MASKED), values, MASKED)
    torch.testing.assert_close(shown, values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("normalise", ["tube", "none"])
def test_a_stabiliser_that_nothing_uses_is_refused(normalise: str) -> None:
    """A setting without effect must not be accepted in silence."""
    with pytest.raises(ValueError, match="stabiliser"):
        PixelTarget(normalise, stabiliser=0.05)  # type: ignore[arg-type]
