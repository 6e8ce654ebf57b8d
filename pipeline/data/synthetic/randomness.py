"""Random numbers that are a pure function of what they are for.

Only uniform doubles are used: they are the raw bits of PCG64, whereas NumPy may change how its
other distributions consume the bits from one release to the next.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stream(IntEnum):
    """What random numbers are for; part of their key."""

    LABELS = 0
    SCENE = 1
    DIGITS = 2
    TASKS = 3  # of Benchmark III
    TASK_LABELS = 4


class Uniform:
    """Uniform random numbers of one key: equal keys, equal numbers."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def between(self, low: float, high: float) -> float:
        """Draw one number in [low, high)."""
        return low + (high - low) * float(self._bits.random())

    def integer(self, count: int) -> int:
        """Draw one of 0 .. count-1."""
        return int(self._bits.random() * count)

    def array(self, *shape: int) -> NDArray[np.float64]:
        """Draw an array of numbers in [0, 1)."""
        return self._bits.random(shape)

    def permutation(self, count: int) -> NDArray[np.intp]:
        """Draw an order of 0 .. count-1."""
        return np.argsort(self._bits.random(count), kind="stable")
