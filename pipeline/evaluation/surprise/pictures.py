"""A pair of videos and the surprise at them as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.data.load import crops
from pipeline.evaluation.segmentation.pictures import Picture, joined

COLUMNS, SIDE = 8, 72  # frames of a row, pixels of each
HEIGHT, MARGIN, LINE = 96, 6, 2  # of the curves, in pixels
COLOURS = ((0, 114, 178), (213, 94, 0))  # possible, impossible (Okabe and Ito)


def strip(pair: Sequence[Picture], curves: Sequence[NDArray[np.float64]]) -> Picture:
    """Return frames of both videos (n,S,S,3) above the curves (V,) of their surprise."""
    rows = [_row(frames) for frames in pair]
    return joined([*rows, _curves(curves, rows[0].shape[1])], axis=0)


def _row(frames: Picture) -> Picture:
    chosen = np.linspace(0, len(frames) - 1, COLUMNS).astype(int)
    whole = crops.Window(0, 0, *frames.shape[1:3])
    return joined(list(crops.cut(frames[chosen], whole, SIDE)), axis=1)


def _curves(curves: Sequence[NDArray[np.float64]], width: int) -> Picture:
    image = Image.new("RGB", (width, HEIGHT), "white")
    drawing = ImageDraw.Draw(image)
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve.max()) for curve in curves)
    for curve, colour in zip(curves, COLOURS, strict=True):
        across = np.linspace(MARGIN, width - MARGIN, max(2, len(curve)))
        values = np.resize(curve, 2) if len(curve) == 1 else curve
        down = HEIGHT - MARGIN - (values - low) / (high - low or 1.0) * (HEIGHT - 2 * MARGIN)
        points = [(float(x), float(y)) for x, y in zip(across, down, strict=True)]
        drawing.line(points, fill=colour, width=LINE)
    return np.asarray(image)
