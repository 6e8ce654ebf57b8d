"""The numbers that are read from features: what is true of each clip, and how errors are measured.

Shapes: n clips, K numbers of a quantity, E values that a probe predicts in their place, T frames, H
and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Clip, Synthetic
from pipeline.data import synthetic
from pipeline.data.load import sampling

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """What is true of clips by their ids, (K,) each; of those that are not named nothing is known.

    What is `circular` runs from 0 to 1, which are one place.
    """

    name: str
    truth: Mapping[str, Values]
    circular: bool = False

    def encode(self, ids: Iterable[str]) -> Values:
        """Return what a probe predicts, (n, E): cosines and sines of what is circular."""
        values = np.stack([self.truth[clip] for clip in ids])
        if not self.circular:
            return values
        return np.concatenate([np.cos(2 * np.pi * values), np.sin(2 * np.pi * values)], axis=1)

    def errors(self, predicted: Values, ids: Iterable[str]) -> Values:
        """Return each clip's distance (n,) from the truth, of predicted values (n, E)."""
        if self.circular:
            cosines, sines = np.split(predicted, 2, axis=1)
            predicted = np.arctan2(sines, cosines) / (2 * np.pi)
        difference = predicted - np.stack([self.truth[clip] for clip in ids])
        if self.circular:
            difference -= np.round(difference)
        distances: Values = np.linalg.norm(difference, axis=1)
        return distances


def of_columns(
    columns: Iterable[str], labels: Mapping[str, Mapping[str, str]]
) -> Iterator[Quantity]:
    """Yield the numbers in columns of the list; an entry that is no number is a missing one."""
    for column in columns:
        numbers = {clip: _number(of_clip.get(column, "")) for clip, of_clip in labels.items()}
        known = {clip: np.array([x]) for clip, x in numbers.items() if math.isfinite(x)}
        yield Quantity(column, known)


def of_embedded(ids: Iterable[str], settings: Synthetic, clip: Clip) -> list[Quantity]:
    """Return position, speed and size of the embedded data's digits, from the true masks.

    All in sides of the frame: where the digit is in the middle frame that is seen, how far it moves
    from one source frame to the next, and the root of the area that it covers, both on average.
    Positions are circular, since what leaves at one side comes in at the other.
    """
    seen = sampling.centred(settings.frames, clip, clip.sampling)[0]
    position, speed, size = {}, {}, {}
    for name in ids:
        masks = synthetic.render(settings, *synthetic.parse_id(name)).masks[seen] > 0
        places = np.stack([centre(mask) for mask in masks])
        steps = np.diff(places, axis=0)
        steps -= np.round(steps)
        position[name] = places[len(places) // 2]
        speed[name] = np.linalg.norm(steps, axis=1).mean(keepdims=True) / np.diff(seen).mean()
        size[name] = np.sqrt(masks.mean(axis=(1, 2))).mean(keepdims=True)
    return [
        Quantity("position", position, circular=True),
        Quantity("speed", speed),
        Quantity("size", size),
    ]


def centre(mask: NDArray[np.bool_]) -> Values:
    """Return the middle (x, y) of a mask (H,W) on a frame without edges, in sides from 0 to 1."""
    middles = []
    for axis in (0, 1):
        share = mask.sum(axis=axis)
        angles = 2 * np.pi * (np.arange(len(share)) + 0.5) / len(share)
        phase = np.angle(np.sum(share * np.exp(1j * angles)))
        middles.append(phase / (2 * np.pi) % 1)
    return np.array(middles)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
