"""J and F of one object's masks, as DAVIS defines them.

Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation";
Pont-Tuset et al. 2017, "The 2017 DAVIS Challenge on Video Object Segmentation". Means are taken
over frames first, then over objects.

Shapes: T frames, H height, W width, P pixels of a boundary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]  # (H,W)
TOLERANCE = 0.008  # of the image's diagonal: how far boundaries may be from each other
PARTS = 4  # of a video; decay is from the first to the last


class Statistics(NamedTuple):
    """One object in one video."""

    mean: float
    recall: float  # share of frames that are above a half
    decay: float  # mean of the first quarter less that of the last


def region_similarity(truth: Mask, answer: Mask) -> float:
    """J: intersection over union; 1 where both are empty."""
    union = np.count_nonzero(truth | answer)
    return np.count_nonzero(truth & answer) / union if union else 1.0


def boundary_accuracy(truth: Mask, answer: Mask) -> float:
    """F: harmonic mean of the shares of each boundary that are near the other one.

    Near is within a disk whose radius is `TOLERANCE` of the diagonal, rounded up to pixels.
    """
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    own, other = (np.argwhere(boundary(mask)) for mask in (answer, truth))
    if not len(own) or not len(other):
        return float(len(own) == len(other))
    precision, recall = _share_near(own, other, radius), _share_near(other, own, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """The pixels (H,W) that differ from that on their right, below, or both; none of the edge's."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    edge: Mask = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return edge


def _share_near(pixels: NDArray[np.intp], others: NDArray[np.intp], radius: int) -> float:
    """The share of pixels (P,2) that are at most `radius` from one of the others."""
    distances, _ = KDTree(others).query(pixels)
    return float(np.mean(distances <= radius))


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Summarise an object's J or F over frames (T,); neighbouring quarters share a frame."""
    ends = np.round(np.linspace(1, len(values), PARTS + 1) + 1e-10).astype(int) - 1
    first, last = (values[ends[k] : ends[k + 1] + 1].mean() for k in (0, PARTS - 1))
    return Statistics(float(values.mean()), float(np.mean(values > 0.5)), float(first - last))
