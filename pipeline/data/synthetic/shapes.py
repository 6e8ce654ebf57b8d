"""Objects that are no digits: opacities of plain shapes, as large and as soft as the digits'."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.data.synthetic.digits import GLYPH, smoothstep

Array = NDArray[np.float64]
SOFT = 2.0 / GLYPH  # half the width of an edge, as a share of the square's half side
FILLED = 0.85  # of the square's half side: the outermost point of a shape
LINE = 0.16  # half the thickness of a line


def _triangle(x: Array, y: Array) -> Array:
    leaning = 0.5 * FILLED - (np.abs(x) * np.sqrt(3) - y) / 2  # the apex is at the top
    inside: Array = np.minimum(0.5 * FILLED - y, leaning)
    return inside


def _plus(x: Array, y: Array) -> Array:
    arms = np.minimum(np.abs(x), np.abs(y))
    return np.minimum(1.3 * LINE - arms, FILLED - _larger(x, y))


def _larger(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y))


# Signed distances (about) to the edge, positive inside, on the square from -1 to 1; y grows down.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: FILLED - np.hypot(x, y),
    "ring": lambda x, y: LINE - np.abs(np.hypot(x, y) - (FILLED - LINE)),
    "square": lambda x, y: 0.7 * FILLED - _larger(x, y),
    "frame": lambda x, y: LINE - np.abs(_larger(x, y) - (0.75 * FILLED - LINE)),
    "triangle": _triangle,
    "plus": _plus,
    "cross": lambda x, y: _plus((x + y) / np.sqrt(2), (x - y) / np.sqrt(2)),
    "bars": lambda x, y: np.minimum(LINE - np.abs(np.abs(x) - 0.45 * FILLED), FILLED - np.abs(y)),
}


@cache
def glyph(name: str) -> NDArray[np.float32]:
    """Return the opacity in [0, 1] of a shape on GLYPH x GLYPH pixels."""
    middles = (np.arange(GLYPH) + 0.5) * 2 / GLYPH - 1
    inside = SHAPES[name](middles[None, :], middles[:, None])
    return smoothstep(0.5 + inside / (2 * SOFT))
