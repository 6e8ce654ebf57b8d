"""Patterns such as `name-{00..19}`: counted before they are expanded, so that none fills memory."""

from __future__ import annotations

import math
import re

from braceexpand import alphabet, braceexpand

MOST = 1000  # parts that a pattern may stand for
DEEPEST = 20  # braces in braces
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_COUNTED = re.compile(r"\n(\d+)\n")  # what takes a group's place: no pattern has line feeds
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
    count = _count(pattern) if "{" in pattern else None
    if count is None:
        return [pattern]
    if count > MOST:
        raise TooManyParts(f"stands for more than {MOST:,} parts")
    return list(braceexpand(pattern))


def _count(pattern: str) -> int | None:
    """Return how many parts a pattern stands for, or MOST + 1; None where braces do not match."""
    text = re.sub(r"\\.?|\n", "xx", pattern, flags=re.DOTALL)  # a backslash takes the meaning away
    for _ in range(DEEPEST + 1):
        text, found = _INNERMOST.subn(lambda group: f"\n{_of_group(group[1])}\n", text)
        if not found:
            return None if "{" in text or "}" in text else _of_text(text)
    return MOST + 1


def _of_text(text: str) -> int:
    """Return how many parts there are of a text whose groups are counted."""
    return min(math.prod(int(number) for number in _COUNTED.findall(text)), MOST + 1)


def _of_group(group: str) -> int:
    """Return how many parts there are of what stands between two braces."""
    if _LONG_NUMBERS.fullmatch(group):
        match = _NUMBERS.fullmatch(group)
        if match is None:
            return MOST + 1
        first, last, step = (int(number or 0) for number in match.groups())
        return min(abs(last - first) // (step or 1) + 1, MOST + 1)
    if match := _LETTERS.fullmatch(group):
        places = [alphabet.index(letter) for letter in match.group(1, 2)]
        return abs(places[1] - places[0]) // (int(match[3] or 0) or 1) + 1
    return min(sum(map(_of_text, group.split(","))), MOST + 1)
