"""Masks that hide what moves along with pasted objects (SMILE, Thoker et al. 2025).

Shapes: K objects, T frames, N = t h w tubes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Lt

from pipeline.method import motion
from pipeline.method.masks.base import BoolArray, Boxes, ClipFacts, Grid, Mask, Ratio
from pipeline.method.masks.tube import TubeMask


@dataclass(frozen=True)
class TrajectoryMask(Mask):
    """As many tubes as a tube mask hides: first those that pasted objects touch."""

    ratio: Ratio  # of the tubes that are masked
    shown: Annotated[float, Ge(0), Lt(1)] = 0.1  # of the tubes of objects, at random
    kind: Literal["trajectory"] = "trajectory"
    needs_objects = True

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> BoolArray:
        """Return the tube mask of a clip without objects."""
        return TubeMask(self.ratio).draw(grid, rng, frames)

    def draw_knowing(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames, facts: ClipFacts
    ) -> BoolArray:
        tubes = self.draw(grid, rng)
        if facts.boxes is None:
            return tubes
        length, height, width = (n // g for n, g in zip(frames.shape[:3], grid, strict=True))
        objects = object_tubes(facts.boxes, grid, (length, height, width))
        keys = rng.random(math.prod(grid)), rng.random(math.prod(grid))
        return hide_objects(tubes, objects, self.shown, keys)


def object_tubes(boxes: Boxes, grid: Grid, tube: tuple[int, int, int]) -> BoolArray:
    """Return the tubes that objects touch, bool (N,); a box counts for all frames of its tube.

    From the first to the last tube that the box reaches, and one row and column more than that, as
    SMILE's own code has it.
    """
    length, height, width = grid
    frames, tall, wide = tube
    touched = np.zeros(grid, dtype=np.bool_)
    parts = boxes.reshape(len(boxes), length, frames, 4)
    low, high = parts[..., :2].min(axis=2), parts[..., 2:].max(axis=2)
    first = np.maximum(low // (wide, tall), 0)
    end = np.minimum(-(-high // (wide, tall)) + 1, (width, height))
    for one_first, one_end in zip(first, end, strict=True):
        for time, ((left, top), (right, bottom)) in enumerate(zip(one_first, one_end, strict=True)):
            touched[time, top:bottom, left:right] = True
    return touched.ravel()


def hide_objects(
    tube_mask: BoolArray,
    objects: BoolArray,
    unmask_ratio: float,
    keys: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> BoolArray:
    """Return a mask, bool (N,), of as many tubes as `tube_mask` hides, objects' tubes first.

    Tubes of `tube_mask` and of `objects` are hidden, but int(`unmask_ratio` n) of the objects' n.
    Then tubes outside objects are turned over until the count is right, and those inside where
    that does not suffice. Which ones is up to two lists of random numbers (N,): the least first.
    """
    shown, turned = keys
    hidden = tube_mask | objects
    hidden[_least(objects, shown, int(unmask_ratio * objects.sum()))] = False
    excess = int(hidden.sum()) - int(tube_mask.sum())
    movable = hidden == (excess > 0)
    for pool in (movable & ~objects, movable & objects):
        chosen = _least(pool, turned, min(abs(excess), int(pool.sum())))
        hidden[chosen] = excess < 0
        excess -= len(chosen) if excess > 0 else -len(chosen)
    return hidden


def _least(pool: BoolArray, keys: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Return the `count` numbers of true places of `pool` (N,) whose keys (N,) are least."""
    places = np.flatnonzero(pool)
    return places[np.argsort(keys[places], kind="stable")[:count]]
