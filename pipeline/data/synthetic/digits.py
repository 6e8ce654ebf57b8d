"""Handwritten digits (scikit-learn's `load_digits`: UCI optical recognition, 1,797 of 8 x 8)."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.data.synthetic.randomness import Stream, Uniform

GLYPH = 32  # pixels across an enlarged digit
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of each class's images
STROKE = (0.35, 0.65)  # ink in [0, 1] where a stroke's edge begins and ends


@cache
def images_of(split: str) -> tuple[NDArray[np.intp], ...]:
    """Return, for each digit 0-9, the images (row numbers of `load_digits`) of one split.

    No image is in two splits; the division does not depend on the data set's seed.
    """
    _, target = _load()
    names = list(SHARES)
    ends = np.cumsum([SHARES[name] for name in names])
    place = names.index(split)
    chosen = []
    for digit in range(10):
        images = np.flatnonzero(target == digit)
        images = images[Uniform(Stream.DIGITS, digit).permutation(len(images))]
        bounds = np.round(np.concatenate([[0.0], ends]) * len(images)).astype(int)
        chosen.append(images[bounds[place] : bounds[place + 1]])
    return tuple(chosen)


@cache
def glyph(image: int) -> NDArray[np.float32]:
    """Return the opacity in [0, 1] of one digit image, enlarged to GLYPH x GLYPH pixels."""
    from scipy.ndimage import zoom

    pixels, _ = _load()
    ink = zoom(pixels[image] / 16.0, GLYPH / 8, order=3, mode="grid-constant", grid_mode=True)
    low, high = STROKE
    return smoothstep((ink - low) / (high - low))


def smoothstep(edge: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an opacity in [0, 1] that rises smoothly where `edge` runs from 0 to 1."""
    edge = np.clip(edge, 0, 1)
    return (edge * edge * (3 - 2 * edge)).astype(np.float32)


@cache
def _load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target
