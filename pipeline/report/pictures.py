"""Drawing on frames.

Images are uint8 arrays H,W,3 or H,W,4 (the fourth is opacity, 255 opaque).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
LINE = (255, 209, 0)  # the outline: yellow with a black edge shows on any picture
EDGE = (0, 0, 0)
HIDDEN = (128, 128, 128, 64)  # a masked tube, on a white page and on a black one
BORDER = 2  # pixels of LINE and EDGE together


def fit(picture: Picture, width: int) -> Picture:
    """Bring a picture to about `width` pixels: whole multiples up, area averages down."""
    height, own = picture.shape[:2]
    if own < width:
        factor = round(width / own)
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    if own > width:
        size = (width, max(1, round(height * width / own)))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return picture


def outlined(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """Return a copy, `BORDER` wider on each side, with a line around `box`.

    `box` is top, left, height, width in pixels of `picture`; the line lies outside it.
    """
    top, left, height, width = box
    framed = np.pad(picture, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    for out, colour in ((2, EDGE), (1, LINE)):
        y0, x0 = top + BORDER - out, left + BORDER - out
        y1, x1 = top + height + BORDER + out - 1, left + width + BORDER + out - 1
        framed[[y0, y1], x0 : x1 + 1] = colour
        framed[y0 : y1 + 1, [x0, x1]] = colour
    return framed


def opaque(picture: Picture) -> Picture:
    """Give a picture H,W,3 its fourth channel; leave one H,W,4 as it is."""
    if picture.shape[2] == 4:
        return picture
    return np.concatenate([picture, np.full((*picture.shape[:2], 1), 255, np.uint8)], axis=2)


def stack(pictures: Sequence[Picture], gap: int) -> Picture:
    """Put pictures of one size one below the other, `gap` transparent pixels between: H,W,4."""
    between = np.zeros((gap, pictures[0].shape[1], 4), np.uint8)
    parts = [part for picture in pictures for part in (opaque(picture), between)]
    return np.concatenate(parts[:-1])


def row(pictures: Sequence[Picture], gap: int) -> Picture:
    """Put pictures of one size beside each other, `gap` transparent pixels between: H,W,4."""
    turned = [picture.swapaxes(0, 1) for picture in pictures]
    return stack(turned, gap).swapaxes(0, 1)
