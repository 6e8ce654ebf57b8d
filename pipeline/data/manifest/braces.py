"""Patterns such as `name-{00..19}`: counted before they are expanded, so that none fills memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from braceexpand import alphabet, braceexpand

MOST = 1000  # parts that a pattern may stand for
DEEPEST = 20  # braces in braces
_NUMBERS = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?(\d{1,18}))?")
_LONG_NUMBERS = re.compile(r"-?\d+\.\.-?\d+(\.\.-?\d+)?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?(\d{1,18}))?")


class TooManyParts(ValueError):  # noqa: N818 - says what is wrong with the pattern
    """The pattern stands for more than `MOST` parts."""


def expand(pattern: str) -> list[str]:
    """Return what a pattern stands for, as in bash; itself where its braces do not match.

    Raises:
        TooManyParts: nothing was expanded.
    """
    if "{" not in pattern:
        return [pattern]
    try:
        count = _count(pattern)
    except _Unbalanced:
        return [pattern]
    if count > MOST:
        raise TooManyParts(f"stands for more than {MOST:,} parts")
    return list(braceexpand(pattern))


class _Unbalanced(Exception):  # noqa: N818 - braces may be part of a name
    """The braces do not match."""


def _count(pattern: str, depth: int = 0) -> int:
    """Return how many parts a pattern stands for; no further than it takes to see: too many."""
    if depth > DEEPEST:
        return MOST + 1
    total = 1
    for group in _groups(pattern):
        total *= _of_group(group, depth)
        if total > MOST:
            total = MOST + 1  # go on: braces that do not match are a name, whatever their number
    return total


def _of_group(group: str, depth: int) -> int:
    """Return how many parts there are of what stands between two braces."""
    if _LONG_NUMBERS.fullmatch(group):
        match = _NUMBERS.fullmatch(group)
        if match is None:
            return MOST + 1
        first, last, step = (int(number or 0) for number in match.groups())
        return abs(last - first) // (step or 1) + 1
    if match := _LETTERS.fullmatch(group):
        places = [alphabet.index(letter) for letter in match.group(1, 2)]
        return abs(places[1] - places[0]) // (int(match[3] or 0) or 1) + 1
    return sum(_count(text, depth + 1) for text in _alternatives(group))


def _groups(pattern: str) -> Iterator[str]:
    """Yield what stands between the outermost braces."""
    depth, start = 0, 0
    for place, letter in _letters(pattern):
        if letter == "{":
            if depth == 0:
                start = place + 1
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                yield pattern[start:place]
            elif depth < 0:
                raise _Unbalanced
    if depth:
        raise _Unbalanced


def _alternatives(group: str) -> Iterator[str]:
    """Yield what the commas between outermost braces separate."""
    depth, start = 0, 0
    for place, letter in _letters(group):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield group[start:place]
            start = place + 1
    yield group[start:]


def _letters(text: str) -> Iterator[tuple[int, str]]:
    """Yield the letters that no backslash takes their meaning from, with their places."""
    places = iter(range(len(text)))
    for place in places:
        if text[place] == "\\":
            next(places, None)
        else:
            yield place, text[place]
