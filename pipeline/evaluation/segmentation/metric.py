"""Mean IoU of an unsupervised segmentation of a clip (paper, section 4.3, after TimeTuning).

Segments have no names, so they are matched with the classes of the ground truth first: all frames
of a clip together, over the classes that occur in it, the background counted as one of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Labels = NDArray[np.integer]
Matching = Literal["hungarian", "greedy_many_to_one"]
BACKGROUND = 0


def mean_iou(truth: Labels, prediction: Labels, *, matching: Matching) -> float:
    """Mean over the classes of `truth` of their intersection over union, after matching.

    `truth` and `prediction` have one clip's labels, in any one shape. `matching` is

    `hungarian`           one segment for a class, so that the sum of IoU is largest; segments that
                          are left over count as background (clustering),
    `greedy_many_to_one`  every segment goes to the class with which its IoU is largest, the lower
                          class where two are equal (over-clustering).
    """
    classes, _, overlap, owner = _matched(truth, prediction, matching)
    merged = (owner[:, None] == classes).astype(overlap.dtype)  # segments x classes
    united = overlap @ merged  # pixels of class i that were given to class j
    return float(np.diag(_iou(united, overlap.sum(1), united.sum(0))).mean())


def named(truth: Labels, prediction: Labels, *, matching: Matching) -> Labels:
    """Return `prediction` with every segment replaced by the class that it was matched with."""
    _, segments, _, owner = _matched(truth, prediction, matching)
    answer: Labels = owner[np.searchsorted(segments, prediction)]
    return answer


def _matched(
    truth: Labels, prediction: Labels, matching: Matching
) -> tuple[Labels, Labels, NDArray[np.int64], Labels]:
    """Return classes, segments, the pixels that each two share, and each segment's class."""
    classes, segments, overlap = _overlaps(truth, prediction)
    iou = _iou(overlap, overlap.sum(1), overlap.sum(0))
    if matching == "hungarian":
        rows, columns = linear_sum_assignment(iou, maximize=True)
        owner = np.full(overlap.shape[1], BACKGROUND, dtype=classes.dtype)
        owner[columns] = classes[rows]
    elif matching == "greedy_many_to_one":
        owner = classes[iou.argmax(0)]
    else:
        raise ValueError(f"unknown matching {matching!r}")
    return classes, segments, overlap, owner


def _overlaps(truth: Labels, prediction: Labels) -> tuple[Labels, Labels, NDArray[np.int64]]:
    """The classes, the segments, and the number of pixels that each two of them share."""
    if truth.shape != prediction.shape or not truth.size:
        raise ValueError(f"labels of shapes {truth.shape} and {prediction.shape} do not compare")
    classes, rows = np.unique(truth, return_inverse=True)
    segments, columns = np.unique(prediction, return_inverse=True)
    cells = rows.ravel() * len(segments) + columns.ravel()
    counts = np.bincount(cells, minlength=len(classes) * len(segments))
    return classes, segments, counts.reshape(len(classes), len(segments)).astype(np.int64)


def _iou(
    overlap: NDArray[np.int64], truth: NDArray[np.int64], prediction: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Intersection over union of every class with every segment."""
    union = truth[:, None] + prediction[None, :] - overlap
    ratio: NDArray[np.float64] = overlap / np.maximum(union, 1)
    return ratio
