"""Training on a mixture: which component of the data each sample is of, and the clips in its order.

The stream of samples is divided at the root of a binary tree between two sets of components, and at
each further node again: of the first n samples that come to a node of weight W, its left side of
weight w gets n w / W, rounded. So the component of any sample, and how many of that component come
before it, are functions of its position alone. Of two components each gets its share of the first n
samples, rounded; with more of them no count is ever 2 samples or more from it, for any n: a node
with several components has at most 2/3 of the weight above it, since the heaviest come first and a
cut is made where the sides are most alike, so what rounding adds shrinks by 2/3 at each node.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline.configuration.schema import Mixture
from pipeline.data.shards.clip_table import at, places_by
from pipeline.data.shards.format import ClipEntry

SHOWN = 8  # components in one message


@dataclass(frozen=True)
class Component:
    """The clips that have one value of the column."""

    name: str
    weight: float
    clips: int


@dataclass(frozen=True)
class _Fork:
    left_weight: int
    weight: int  # of both sides
    left: _Fork | int  # or the number of a component
    right: _Fork | int

    def left_of(self, samples: int) -> int:
        """Return how many of the first samples go to the left."""
        return (2 * samples * self.left_weight + self.weight) // (2 * self.weight)


@dataclass(frozen=True)
class ClipMixture:
    """The components that a training's samples are of, each with its share."""

    column: str  # of the list
    components: tuple[Component, ...]  # in the order in which the clips lie
    sha256: str  # of which clip is of which component

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """Return where among the clips each component begins."""
        return (0, *itertools.accumulate(each.clips for each in self.components))

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """Of the samples, of each component."""
        whole = sum(self._weights)
        return tuple(weight / whole for weight in self._weights)

    @functools.cached_property
    def _weights(self) -> tuple[int, ...]:
        """Return integers in the ratios of the weights: 0.7 and 0.3, as written, are 7 and 3."""
        exact = [Fraction(repr(float(each.weight))) for each in self.components]
        scale = math.lcm(*(each.denominator for each in exact))
        return tuple(int(each * scale) for each in exact)

    @functools.cached_property
    def _tree(self) -> _Fork | int:
        weights = self._weights
        order = sorted(range(len(weights)), key=lambda number: (-weights[number], number))
        return _divided(order, weights)

    def locate(self, position: int) -> tuple[int, int]:
        """Return of which component a sample is, and how many of that one come before it."""
        node = self._tree
        while isinstance(node, _Fork):
            before = node.left_of(position)
            if node.left_of(position + 1) > before:
                node, position = node.left, before
            else:
                node, position = node.right, position - before
        return node, position

    def counts(self, samples: int) -> list[int]:
        """Return how many of the first samples are of each component."""
        counted = dict(_counted(self._tree, samples))
        return [counted[number] for number in range(len(self.components))]

    def record(self, samples: int) -> dict[str, Any]:
        """Return what `pretrain.json` says of a training on so many samples."""
        components = {
            each.name: {
                "clips": each.clips,
                "weight": each.weight,
                "share": round(share, 6),
                "samples": count,
            }
            for each, share, count in self._told(samples)
        }
        return {"column": self.column, "sha256": self.sha256, "components": components}

    def described(self, samples: int) -> str:
        """Say in words what a training on so many samples sees of each component."""
        parts = [
            f"{each.name} {share:.1%} ({each.clips:,} clip{'s' if each.clips != 1 else ''}, each "
            f"{count / each.clips:,.1f} times)"
            for each, share, count in itertools.islice(self._told(samples), SHOWN)
        ]
        left = len(self.components) - len(parts)
        return f"a mixture by {self.column}: " + ", ".join([*parts, *[f"{left} more"] * (left > 0)])

    def _told(self, samples: int) -> Iterator[tuple[Component, float, int]]:
        """Yield each component with its share and how many of so many samples are of it."""
        return zip(self.components, self.shares, self.counts(samples), strict=True)


def mixed(
    clips: Sequence[ClipEntry], settings: Mixture, place: str
) -> tuple[ClipMixture, Sequence[ClipEntry]]:
    """Return a mixture of these clips, and the clips: components by name, each in its order.

    Raises:
        UserError: where a clip has no weight, or a weight no clip; `place` says where they are set.
    """
    places = places_by(clips, settings.column)
    settings.check({name: len(found) for name, found in places.items()}, place)
    names = sorted(places)
    order = np.concatenate([places[name] for name in names])
    sizes = [len(places[name]) for name in names]
    digest = hashlib.sha256(json.dumps(sizes).encode() + order.astype("<i8").tobytes())
    components = map(Component, names, [settings.weights[name] for name in names], sizes)
    mixture = ClipMixture(settings.column, tuple(components), digest.hexdigest())
    return mixture, at(clips, order.astype(np.min_scalar_type(len(clips))))


def _divided(order: Sequence[int], weights: Sequence[int]) -> _Fork | int:
    """Divide components, the heaviest first, where both sides weigh most nearly the same."""
    if len(order) == 1:
        return order[0]
    sums = list(itertools.accumulate(weights[number] for number in order))
    cut = min(range(1, len(order)), key=lambda cut: abs(2 * sums[cut - 1] - sums[-1]))
    left, right = _divided(order[:cut], weights), _divided(order[cut:], weights)
    return _Fork(sums[cut - 1], sums[-1], left, right)


def _counted(node: _Fork | int, samples: int) -> Iterator[tuple[int, int]]:
    if isinstance(node, int):
        yield node, samples
        return
    left = node.left_of(samples)
    yield from _counted(node.left, left)
    yield from _counted(node.right, samples - left)
