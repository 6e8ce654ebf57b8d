"""Which of many things the page shows: some, evenly spaced, and no more than there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

Item = TypeVar("Item")


class Reducible(Protocol):
    """Pictures of one run, of which fewer can be shown."""

    @property
    def size(self) -> int:
        """Bytes of all pictures."""

    def reduced(self, count: int) -> Self:
        """Return at most `count` of its rows."""


Pictures = TypeVar("Pictures", bound=Reducible)


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items, evenly spaced, the first one among them."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def within(groups: Sequence[Pictures], most: int, limit: int) -> list[Pictures]:
    """Show fewer than `most` rows of each where the pictures together exceed `limit` bytes."""
    for count in range(most, 0, -1):
        kept = [group.reduced(count) for group in groups]
        if sum(group.size for group in kept) <= limit:
            return kept
    return []
