"""A mixture: shares that are kept everywhere, each component's clips once in each of its epochs."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.schema import Mixture
from pipeline.data.load import order
from pipeline.data.load.mixture import ClipMixture, Component, mixed
from pipeline.data.shards.clip_table import places_by
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError

seeds = st.integers(-(2**40), 2**40)
whole = st.lists(st.integers(1, 1000), min_size=1, max_size=12)
written = st.integers(1, 10**6).map(lambda n: n / 1000)  # 0.001 to 1000, three places
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)
N = 600  # samples of a stream that are looked at


def mixture(weights: Sequence[float], clips: Sequence[int] | None = None) -> ClipMixture:
    """A mixture of components a, b, c, ..., by default of 10 clips each."""
    clips = clips or [10] * len(weights)
    names = map(chr, itertools.count(ord("a")))
    parts = [Component(*each) for each in zip(names, map(float, weights), clips, strict=False)]
    return ClipMixture("source", tuple(parts), "")


def stream(mixed: ClipMixture, seed: int, samples: int) -> list[tuple[int, int]]:
    n = sum(each.clips for each in mixed.components)
    return order.batch(seed, 0, n=n, batch_size=samples, mixture=mixed)


@given(st.one_of(whole, st.lists(written, min_size=1, max_size=12)))
def test_every_beginning_has_the_shares(weights: list[float]) -> None:
    """Catches a component that gets more or less than its share, anywhere, and shares that only
    hold in the long run: no count is ever two samples from the exact one, of two components none
    more than half a sample."""
    made = mixture(weights)
    exact = [Fraction(str(float(weight))) for weight in weights]
    shares = [each / sum(exact) for each in exact]
    assert made.shares == pytest.approx([float(share) for share in shares])
    counted = [0] * len(weights)
    for position in range(N):
        component, before = made.locate(position)
        assert before == counted[component]
        counted[component] += 1
        off = [abs(n - share * (position + 1)) for n, share in zip(counted, shares, strict=True)]
        assert max(off) < 2
        assert len(weights) != 2 or max(off) <= Fraction(1, 2)
    assert made.counts(N) == counted


@given(whole, st.integers(0, 10**15))
def test_whole_weights_are_exact_in_every_round(weights: list[int], rounds: int) -> None:
    """Catches rounding that adds up: so many samples as the weights' sum hold just the weights."""
    made, total = mixture(weights), sum(weights) // math.gcd(*weights)
    expected = [rounds * weight // math.gcd(*weights) for weight in weights]
    assert made.counts(rounds * total) == expected


@given(whole, st.integers(0, 10**18))
def test_any_position_is_found_without_those_before(weights: list[int], position: int) -> None:
    """Catches floating point, which is off by whole samples late in a long training."""
    made = mixture(weights)
    component, before = made.locate(position)
    assert before == made.counts(position)[component]
    after = made.counts(position + 1)
    assert after[component] == before + 1
    assert sum(after) == position + 1


def test_only_ratios_of_weights_count() -> None:
    """Catches weights that are taken as binary numbers: 0.7 and 0.3 are 7 and 3."""
    for one, other in (([3, 1], [0.75, 0.25]), ([7, 3], [0.7, 0.3]), ([1, 1, 2], [0.1, 0.1, 0.2])):
        first, second = mixture(one), mixture(other)
        places = range(10**6, 10**6 + 50)
        assert [first.locate(n) for n in places] == [second.locate(n) for n in places]


@given(seeds, sizes, st.data())
def test_each_component_has_its_own_epochs(
    seed: int, clips: list[int], data: st.DataObject
) -> None:
    """Catches a clip that comes twice before another of its component has come once, and a clip
    of another component than the sample's."""
    weights = data.draw(st.lists(st.integers(1, 20), min_size=len(clips), max_size=len(clips)))
    made = mixture(weights, clips)
    seen: list[list[tuple[int, int]]] = [[] for _ in clips]
    for position, (epoch, index) in enumerate(stream(made, seed, N)):
        component, _ = made.locate(position)
        assert made.starts[component] <= index < made.starts[component + 1]
        seen[component].append((epoch, index))
    for component, samples in enumerate(seen):
        n = clips[component]
        every = set(range(made.starts[component], made.starts[component + 1]))
        for epoch, first in enumerate(range(0, len(samples), n)):
            one = samples[first : first + n]
            assert {each for each, _ in one} == {epoch}
            assert len({index for _, index in one}) == len(one)
            assert len(one) < n or {index for _, index in one} == every


@given(seeds, st.integers(0, 40), st.integers(1, 8), st.sampled_from([1, 2, 3, 4]), sizes)
def test_ranks_and_steps_share_the_stream(
    seed: int, step: int, part: int, world: int, clips: list[int]
) -> None:
    """Catches a batch that depends on the number of processes, or on the steps before it."""
    made, size = mixture([1 + 2 * k for k in range(len(clips))], clips), part * world
    n = sum(clips)
    taken = [
        sample
        for rank in range(world)
        for sample in order.batch(
            seed, step, n=n, batch_size=size, rank=rank, world=world, mixture=made
        )
    ]
    fresh = pickle.loads(pickle.dumps(made))  # noqa: S301 - as a loader's worker gets it
    assert taken == stream(fresh, seed, (step + 1) * size)[step * size :]


def test_components_of_one_size_are_in_orders_of_their_own() -> None:
    """Catches clips that always come together, since their components are shuffled alike."""
    orders = {tuple(order.permutation(0, 0, 50, *key)) for key in ((), (0,), (1,), (2,))}
    assert len(orders) == 4


def test_orders_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches components that put out one another's orders, which are then drawn at each sample."""
    drawn: Counter[tuple[int, ...]] = Counter()
    bits = order._bits

    def noted(*key: int) -> object:
        drawn[key] += 1
        return bits(*key)

    monkeypatch.setattr(order, "_bits", noted)
    order._kept.cache_clear()
    made = mixture([1] * 20, [30] * 20)
    for step in range(20):
        order.batch(0, step, n=600, batch_size=60, mixture=made)
    order._kept.cache_clear()
    assert len(drawn) == 40  # twenty components, two epochs of each
    assert set(drawn.values()) == {2}  # to count it, and to sort it


def labelled(entries: Sequence[ClipEntry], sources: str) -> list[ClipEntry]:
    """The entries, each with a letter of `sources` in the column `source`; `-`: with none."""
    return [
        dataclasses.replace(entry, labels={"label": "x"} | ({"source": s} if s != "-" else {}))
        for entry, s in zip(entries, sources, strict=True)
    ]


def test_clips_lie_by_component(entries: list[ClipEntry]) -> None:
    """Catches clips in another component than their label says, and a hash that another label
    changes, or that a moved clip leaves as it is."""
    settings = Mixture(column="source", weights={"b": 1, "a": 3})
    clips = labelled(entries, "babbaab")
    made, ordered = mixed(clips, settings, "here")
    assert [(each.name, each.weight, each.clips) for each in made.components] == [
        ("a", 3, 3),
        ("b", 1, 4),
    ]
    assert [entry.id for entry in ordered] == [entries[k].id for k in (1, 4, 5, 0, 2, 3, 6)]
    other_label = [dataclasses.replace(e, labels=e.labels | {"label": "y"}) for e in clips]
    other_weight = Mixture(column="source", weights={"a": 1, "b": 1})
    assert mixed(other_label, other_weight, "here")[0].sha256 == made.sha256
    assert mixed(labelled(entries, "abbbaab"), settings, "here")[0].sha256 != made.sha256
    record = made.record(10)
    assert record["components"]["a"] == {"clips": 3, "weight": 3, "share": 0.75, "samples": 8}
    assert made.described(10) == (
        "a mixture by source: a 75.0% (3 clips, each 2.7 times), b 25.0% (4 clips, each 0.5 times)"
    )


@pytest.mark.parametrize(
    ("sources", "column", "weights", "problem", "place"),
    [
        ("aabbaac", "source", {"a": 1, "b": 1}, "'source' without a weight: c (1)", "weights"),
        ("aabbaa-", "source", {"a": 1, "b": 1}, "without a weight: (empty) (1)", "weights"),
        ("aabbaab", "source", {"a": 1, "b": 1, "c": 2}, "has the value c in", "weights"),
        ("aabbaab", "sorce", {"a": 1}, "no clip to pretrain on has a value in the", "column"),
    ],
)
def test_weights_and_values_are_the_same(
    entries: list[ClipEntry],
    sources: str,
    column: str,
    weights: dict[str, float],
    problem: str,
    place: str,
) -> None:
    """Catches clips that are silently never trained on, and weights that are silently ignored."""
    settings = Mixture(column=column, weights=weights)
    with pytest.raises(UserError) as caught:
        mixed(labelled(entries, sources), settings, "runs.x.trainer.mixture")
    assert problem in caught.value.problem
    assert caught.value.place == f"runs.x.trainer.mixture.{place}"
    assert caught.value.remedy


def test_no_clips_have_no_places() -> None:
    """Catches a crash where a split is empty."""
    assert places_by([], "source") == {}
