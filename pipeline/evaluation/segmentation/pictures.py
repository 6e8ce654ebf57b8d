"""Strips of pictures: a clip as it is, under its ground truth, and under its segments.

Shapes: T frames, R pixels of a side.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.load import crops
from pipeline.evaluation.segmentation import metric
from pipeline.evaluation.segmentation.metric import Labels
from pipeline.evaluation.segmentation.sources import VOID, MaskedClip
from pipeline.runtime.files import atomic_path

Picture = NDArray[np.uint8]
COLUMNS = 4  # frames of a strip, at most
SIDE = 96  # pixels of one picture, at least
GAP = 2
OPACITY = 0.55
WHITE = 255
ROWS = ("input", "ground truth", "clustering", "over-clustering")  # from top to bottom

# Okabe and Ito's colours, which also the colour-blind tell apart; the first is the background.
COLOURS = np.array(
    [
        (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (153, 153, 153), (255, 255, 255),
    ]
)  # fmt: skip


def strip(clip: MaskedClip, clustering: Labels, over_clustering: Labels) -> Picture:
    """Return a picture of `ROWS` by up to `COLUMNS` frames.

    A cluster has the colour of the object that it was matched with; a segment of over-clustering
    has one of its own.
    """
    counts = clip.masks != VOID
    truth = np.where(counts, clip.masks, metric.BACKGROUND).astype(np.int64)
    matched = metric.named(truth, clustering, matching="hungarian")
    classes = np.unique(truth)
    named = [np.searchsorted(classes, labels) for labels in (truth, matched)]
    return layered(clip.frames, [*named, over_clustering])


def layered(pictures: Picture, layers: Sequence[Labels]) -> Picture:
    """Return a row of up to `COLUMNS` frames (T,S,S,3), and below it one with each of the `layers`.

    A layer numbers the pixels (T,R,R) of all frames.
    """
    frames = np.linspace(0, len(pictures) - 1, min(COLUMNS, len(pictures))).astype(int)
    side = layers[0].shape[1]
    factor = -(-SIDE // side)
    shown = []
    pictures = crops.cut(pictures, crops.Window(0, 0, *pictures.shape[1:3]), side)
    for labels in (None, *layers):
        row = [pictures[k] if labels is None else overlaid(pictures[k], labels[k]) for k in frames]
        shown.append(joined([_enlarged(picture, factor) for picture in row], axis=1))
    return joined(shown, axis=0)


def overlaid(picture: Picture, labels: Labels) -> Picture:
    """Return a picture (R,R,3) in grey, with every segment (R,R) in its colour over it."""
    grey = picture.mean(axis=2, keepdims=True)
    colour = COLOURS[labels % len(COLOURS)]
    mixed: Picture = np.rint((1 - OPACITY) * grey + OPACITY * colour).astype(np.uint8)
    return mixed


def chosen(ids: Sequence[str], count: int) -> list[str]:
    """Return the clips that are drawn: `count` of them, spread evenly."""
    places = np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(int)
    return [ids[place] for place in places]


def write(folder: Path, strips: Iterable[tuple[str, Picture]]) -> list[tuple[str, Path]]:
    """Write clips' strips as PNG, in place of what the folder holds; return each id and file."""
    shutil.rmtree(folder, ignore_errors=True)
    written: list[tuple[str, Path]] = []
    for clip, picture in strips:
        path = folder / f"{len(written):02d}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", optimize=True)
        written.append((clip, path))
    return written


def _enlarged(picture: Picture, factor: int) -> Picture:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def joined(pictures: Sequence[Picture], axis: int) -> Picture:
    """Put pictures beside each other (axis 1) or below (0), with white between."""
    width = [(0, 0), (0, 0), (0, 0)]
    width[axis] = (0, GAP)
    padded = [np.pad(picture, width, constant_values=WHITE) for picture in pictures[:-1]]
    return np.concatenate([*padded, pictures[-1]], axis=axis)
