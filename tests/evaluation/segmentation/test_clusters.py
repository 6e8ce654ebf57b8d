"""From tokens to segments."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from sklearn.metrics import adjusted_rand_score

from pipeline.configuration import composition
from pipeline.configuration.schema import Segmentation
from pipeline.evaluation.segmentation import clusters


@pytest.fixture(scope="module")
def settings() -> Segmentation:
    return Segmentation(**yaml.safe_load(composition.compose([]))["segmentation"])


def planted(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (3,4,4,24): the left half is one thing, the right half another, in every tube."""
    rng = np.random.default_rng(0)
    sides = np.broadcast_to((np.arange(4) >= 2)[None, None, :], (3, 4, 4))
    tokens = np.where(sides[..., None], rng.normal(size=24), rng.normal(size=24))
    return (tokens + noise * rng.normal(size=tokens.shape)).astype(np.float32), sides


def test_finds_a_planted_division_and_nothing_in_noise(settings: Segmentation) -> None:
    """Axes in another order (halves would be upper and lower, or come and go in time), and
    segments that look like the truth without any signal."""
    for noise, low, high in ((0.3, 0.95, 1.0), (50.0, -0.1, 0.3)):
        tokens, sides = planted(noise)
        (found,) = clusters.segment(tokens, 6, 16, [2], settings)
        truth = sides.repeat(2, axis=0).repeat(4, axis=1).repeat(4, axis=2)
        inner = np.ones(16, bool)
        inner[6:10] = False  # scaling up blurs the border
        score = adjusted_rand_score(truth[:, :, inner].ravel(), found[:, :, inner].ravel())
        assert low <= score <= high


def test_segments_have_the_masks_shape_and_the_asked_number(settings: Segmentation) -> None:
    """Segments per tube where masks are per frame, or other than K of them."""
    tokens, _ = planted(1.0)
    counts = (1, 3, 10)
    maps = clusters.segment(tokens, 6, 20, counts, settings)
    for count, found in zip(counts, maps, strict=True):
        assert found.shape == (6, 20, 20)
        assert sorted(np.unique(found)) == list(range(count))
        np.testing.assert_array_equal(found[0::2], found[1::2])  # both frames of a tube


def test_dense_features_are_standardised_components_scaled_up() -> None:
    """Features that one loud dimension decides, a component too many, or a map turned over."""
    tokens, _ = planted(1.0)
    loud = tokens * np.where(np.arange(24) == 5, 1e3, 1.0).astype(np.float32)
    maps = clusters.dense(tokens, 4, 24)
    np.testing.assert_allclose(np.abs(clusters.dense(loud, 4, 24)), np.abs(maps), atol=1e-3)
    flat = maps.reshape(-1, 24)
    standard = (tokens - tokens.mean((0, 1, 2))) / tokens.std((0, 1, 2))
    gram = standard.reshape(-1, 24) @ standard.reshape(-1, 24).T
    np.testing.assert_allclose(flat @ flat.T, gram, atol=1e-3)  # all components: a rotation
    assert clusters.dense(tokens, 8, 50).shape == (3, 8, 8, 24)  # no more than there are
    assert clusters.dense(tokens, 8, 5).shape == (3, 8, 8, 5)
    spread = clusters.dense(tokens, 4, 24).reshape(-1, 24).var(axis=0)
    assert (np.diff(spread) <= 1e-6).all()  # the first ones are kept


def test_dead_dimensions_and_equal_tokens_do_no_harm(settings: Segmentation) -> None:
    """A division by a deviation of zero, or an error where there are fewer pixels than clusters."""
    tokens, _ = planted(1.0)
    tokens[..., 3] = 7.0
    assert np.isfinite(clusters.dense(tokens, 8, 50)).all()
    (found,) = clusters.segment(np.ones_like(tokens), 6, 8, [10], settings)
    assert found.shape == (6, 8, 8)
