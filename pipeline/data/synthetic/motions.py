"""How a digit moves. Position, size and path angle are circles, and every start is uniform.

Two properties follow, whatever the settings, and the tests hold them:

- Of each pair, one member is the other one's frames in reverse order, so no unordered bag of
  frames tells the two apart.
- A digit that leaves the frame at one side comes back at the other, and one that has grown to
  the largest size begins again at the smallest. So at every moment position and size are
  uniform under every motion, and no single frame, even with its number known, tells any two
  motions apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Start:
    """What a motion is drawn from: the same for every motion of a clip."""

    x: float  # pixels, uniform over the frame
    y: float
    scale: float  # in [0, 1): where between the smallest and the largest size
    angle: float  # radians: where on the circle the path begins
    radius: float  # pixels, of the circle
    travelled: Array  # T: pixels along the path since the first frame
    turned: Array  # T: turns, or growths, since the first frame


@dataclass(frozen=True)
class Path:
    """Where the digit is in each of T frames; positions are modulo the frame's size."""

    x: Array  # T: pixels
    y: Array  # T
    scale: Array  # T: in [0, 1)

    @classmethod
    def of(cls, start: Start, **moved: Array) -> Path:
        """Return the path on which all but what is `moved` stays as it is at the start."""
        still = np.zeros_like(start.travelled)
        at_start = {name: getattr(start, name) + still for name in ("x", "y", "scale")}
        return cls(**at_start | moved)

    def reversed(self) -> Path:
        """Return the path from its end to its beginning."""
        return Path(self.x[::-1], self.y[::-1], self.scale[::-1])


def _right(start: Start) -> Path:
    return Path.of(start, x=start.x + start.travelled)


def _down(start: Start) -> Path:
    return Path.of(start, y=start.y + start.travelled)


def _clockwise(start: Start) -> Path:
    angle = start.angle + 2 * np.pi * start.turned  # y points down: growing angles are clockwise
    x = start.x + start.radius * np.cos(angle)
    return Path.of(start, x=x, y=start.y + start.radius * np.sin(angle))


def _growing(start: Start) -> Path:
    return Path.of(start, scale=(start.scale + start.turned) % 1.0)


@dataclass(frozen=True)
class Motion:
    """A path, shown forwards or backwards."""

    path: Callable[[Start], Path]
    backwards: bool


MOTIONS: dict[str, Motion] = {
    "right": Motion(_right, backwards=False),
    "left": Motion(_right, backwards=True),
    "down": Motion(_down, backwards=False),
    "up": Motion(_down, backwards=True),
    "clockwise": Motion(_clockwise, backwards=False),
    "anticlockwise": Motion(_clockwise, backwards=True),
    "growing": Motion(_growing, backwards=False),
    "shrinking": Motion(_growing, backwards=True),
}


def progress(frames: int, acceleration: float) -> Array:
    """Return how far a motion of unit speed has come in each frame (T), from 0.

    The speed of the steps runs linearly from `1 - acceleration` to `1 + acceleration`.
    """
    steps = 1.0 + acceleration * np.linspace(-1.0, 1.0, frames - 1)
    return np.concatenate([[0.0], np.cumsum(steps)])
