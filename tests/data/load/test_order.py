"""Order is a pure function, and obeys its laws for any sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.load import order

seeds = st.integers(-(2**40), 2**40)
epochs = st.integers(0, 1000)
sizes = st.integers(1, 200)


@given(seeds, epochs, sizes)
def test_is_a_permutation(seed: int, epoch: int, n: int) -> None:
    """Catches a clip that an epoch leaves out or shows twice, and hidden state."""
    drawn = order.permutation(seed, epoch, n)
    assert sorted(drawn) == list(range(n))
    assert np.array_equal(drawn, order.permutation(seed, epoch, n))


@given(seeds, epochs, sizes, st.sampled_from([1, 2, 16, 64]))
def test_parts_make_the_order_of_the_whole(seed: int, epoch: int, n: int, part: int) -> None:
    """Catches an order that changes with the size of the parts that are sorted at a time."""
    key = np.random.SeedSequence(seed % 2**64, spawn_key=(0, epoch))
    whole = np.argsort(np.random.Philox(key).random_raw(n), kind="stable")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(order, "PART", part)
        patched.setattr(order, "_DRAWN", 7)
        order._kept.cache_clear()
        assert np.array_equal(order.permutation(seed, epoch, n), whole)
        drawn = order.batch(seed, 0, n=n, batch_size=n)
    order._kept.cache_clear()
    if not epoch:
        assert [index for _, index in drawn] == whole.tolist()


def test_epochs_and_seeds_differ() -> None:
    """Catches an epoch or a seed that is not used: 100! orders do not meet by chance."""
    orders = {tuple(order.permutation(s, e, 100)) for s in (-1, 0, 1, 2**32) for e in range(5)}
    assert len(orders) == 20


def test_every_place_is_equally_likely() -> None:
    """Catches a biased shuffle: over 6,000 epochs each clip comes first 1,000 +- 5 deviations."""
    first = Counter(int(order.permutation(0, epoch, 6)[0]) for epoch in range(6000))
    assert max(abs(first[clip] - 1000) for clip in range(6)) < 5 * (6000 * 5 / 36) ** 0.5


def test_recorded_numbers() -> None:
    """Catches a library version that changes order: an old run could not be resumed with it.

    Recorded with numpy 2.4; Philox and SeedSequence are promised never to change.
    """
    assert order.permutation(0, 0, 8).tolist() == [7, 6, 3, 2, 4, 1, 5, 0]
    assert order.sample_rng(0, 0, 0).random(2).tolist() == [
        0.3113631743372899,
        0.3633243855002726,
    ]


@given(seeds, st.integers(0, 50), sizes, st.integers(1, 12), st.sampled_from([1, 2, 3, 4]))
def test_ranks_share_the_stream(seed: int, step: int, n: int, part: int, world: int) -> None:
    """Catches ranks that overlap or leave out samples, and steps that do so at their seams."""
    batch_size = part * world

    def taken(step: int) -> list[tuple[int, int]]:
        ranks = (
            order.batch(seed, step, n=n, batch_size=batch_size, rank=rank, world=world)
            for rank in range(world)
        )
        return [sample for rank in ranks for sample in rank]

    stream = [
        (epoch, int(index))
        for epoch in range((step + 2) * batch_size // n + 1)
        for index in order.permutation(seed, epoch, n)
    ]
    first = step * batch_size
    assert taken(step) + taken(step + 1) == stream[first : first + 2 * batch_size]


@given(st.integers(1, 100), sizes, st.integers(1, 300))
def test_steps_hold_whole_batches(epochs: int, n: int, batch_size: int) -> None:
    """Catches a run of no steps, and one that is an epoch too long or a batch too short."""
    steps = order.total_steps(epochs, n=n, batch_size=batch_size)
    assert steps >= 1
    assert (steps - 1) * batch_size < epochs * n
    assert (steps + 1) * batch_size > epochs * n
    assert order.total_steps(0, n=n, batch_size=batch_size) == 0


@pytest.mark.parametrize(("rank", "world", "n"), [(0, 3, 5), (2, 2, 5), (-1, 2, 5), (0, 2, 0)])
def test_impossible_splits(rank: int, world: int, n: int) -> None:
    """Catches samples lost to rounding where the batch does not divide."""
    with pytest.raises(ValueError, match=r"cannot share|no clips"):
        order.batch(0, 0, n=n, batch_size=4, rank=rank, world=world)


def test_samples_draw_apart() -> None:
    """Catches samples of different clips, epochs or seeds that share random numbers."""
    keys = [(s, e, i) for s in range(3) for e in range(3) for i in range(3)]
    assert len({order.sample_rng(*key).random() for key in keys}) == 27


@given(st.integers(1, 1000), seeds)
def test_below_is_below(n: int, seed: int) -> None:
    """Catches an index past the end."""
    rng = order.sample_rng(seed, 0, 0)
    assert all(0 <= order.randint(rng, n) < n for _ in range(20))
