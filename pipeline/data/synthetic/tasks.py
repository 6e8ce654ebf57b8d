"""What Benchmark III (SEVERE) needs of the embedded data: small data sets, shifted away from it.

Each variant is the embedded data set with one thing changed: other backgrounds, other objects,
classes that differ by a little in speed or direction, oscillations to be counted, or several
objects at once. The first data set's own clips are drawn elsewhere (`dataset`), and are as before.

Letters: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import digits, scene, shapes
from pipeline.data.synthetic.dataset import SPLITS, Rendered
from pipeline.data.synthetic.motions import MOTIONS, Array, Path
from pipeline.data.synthetic.randomness import Stream, Uniform
from pipeline.data.synthetic.scene import Scene

VERSION = 1  # raised whenever the frames of the same settings change
SPEEDS = (1.0, 1.5, 2.0, 2.5)  # pixels per frame
HEADINGS = (-50, -30, -10, 10, 30, 50)  # degrees from rightwards, clockwise
COUNTS = (1, 2, 3, 4)  # oscillations in the frames that the model sees
SWING = 0.25  # of an oscillation to either side, in sides of the frame
SEPARATOR = ";"  # between the labels of one clip

# Backgrounds that the first data set does not have: fine, strong, coloured, lighter or darker
# than the object, and moving.
UNSEEN = {
    "texture": 0.15,
    "fall": (0.0, 1.0),
    "tint": 0.3,
    "both_polarities": True,
    "pan": (0.5, 1.5),
}
SMALL = {"digit_size": (13.0, 16.0)}  # pixels of each of several objects, on a frame of 32


@dataclass(frozen=True)
class View:
    """What the model sees of a clip: `frames`, `stride` source frames apart."""

    frames: int
    stride: int

    @property
    def span(self) -> int:
        """Source frames from the first to the last that is seen."""
        return (self.frames - 1) * self.stride + 1


Draw = Callable[[Synthetic, View, int, str, Uniform], tuple[Rendered, str]]


@dataclass(frozen=True)
class Variant:
    """A task's clips: `cells` kinds that occur equally often, and how one of a kind is drawn."""

    cells: int
    draw: Draw


def render(variant: str, settings: Synthetic, view: View, split: str, index: int) -> Rendered:
    """Draw one clip; its `labels` hold `label`. Equal arguments give equal bytes.

    Kinds are balanced: each occurs once in every block of as many clips as there are kinds. The
    splits share no digit image and no seed.
    """
    kind = VARIANTS[variant]
    number, place = list(VARIANTS).index(variant), SPLITS.index(split)
    block, within = divmod(index, kind.cells)
    order = Uniform(settings.seed, Stream.TASK_LABELS, number, place, block)
    cell = int(order.permutation(kind.cells)[within])
    uniform = Uniform(settings.seed, Stream.TASKS, number, place, index)
    clip, label = kind.draw(settings, view, cell, split, uniform)
    return clip._replace(labels={"label": label})


def _backgrounds(
    settings: Synthetic, _view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    motion = settings.motions[cell % len(settings.motions)]
    return _moving(settings.model_copy(update=UNSEEN), motion, split, uniform), motion


def _objects(
    settings: Synthetic, _view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    name = list(shapes.SHAPES)[cell]
    motion = settings.motions[uniform.integer(len(settings.motions))]
    drawn = replace(_scene(settings, split, uniform), opacity=shapes.glyph(name))
    frames, masks = scene.picture(drawn, motion)
    return Rendered(frames, masks, {}), name


def _speeds(
    settings: Synthetic, _view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    heading = np.pi / 2 * uniform.integer(4)
    drawn = _scene(settings, split, uniform)
    travelled = np.arange(settings.frames) * np.float64(SPEEDS[cell])
    return _along(drawn, heading, travelled), f"{SPEEDS[cell]} pixels per frame"


def _directions(
    settings: Synthetic, _view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    drawn = _scene(settings, split, uniform)
    return _along(drawn, np.radians(HEADINGS[cell]), drawn.start.travelled), f"{HEADINGS[cell]} deg"


def _counts(
    settings: Synthetic, view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    """Exactly the frames that the model sees, so that every view has the whole count in it."""
    heading, sign = 2 * np.pi * uniform.between(0, 1), 1 - 2 * uniform.integer(2)
    drawn = _scene(settings.model_copy(update={"frames": view.span}), split, uniform)
    turns = COUNTS[cell] * np.arange(view.span) / (view.frames * view.stride)
    # From one end of the swing: so that also the fastest one is seen to move.
    swing = sign * SWING * settings.size * np.cos(2 * np.pi * turns)
    return _along(drawn, heading, swing), str(COUNTS[cell])


def _several(
    settings: Synthetic, _view: View, cell: int, split: str, uniform: Uniform
) -> tuple[Rendered, str]:
    """One to three digits, all different, each with a motion of its own."""
    chosen = GROUPS[cell]
    crowd = settings.model_copy(update=SMALL)
    objects = []
    for digit in chosen:
        drawn = _scene(crowd, split, uniform, digit)
        kind = MOTIONS[settings.motions[uniform.integer(len(settings.motions))]]
        path = kind.path(drawn.start)
        objects.append((drawn, _reversed(path) if kind.backwards else path))
    frames, masks = scene.painted(objects[0][0], objects)
    return Rendered(frames, masks, {}), SEPARATOR.join(str(digit) for digit in chosen)


def _moving(settings: Synthetic, motion: str, split: str, uniform: Uniform) -> Rendered:
    frames, masks = scene.picture(_scene(settings, split, uniform), motion)
    return Rendered(frames, masks, {})


def _along(drawn: Scene, heading: float, travelled: Array) -> Rendered:
    """Move the digit along a straight line: `travelled` pixels from its start in each frame."""
    still = np.zeros_like(travelled)
    path = Path(
        x=drawn.start.x + np.cos(heading) * travelled,
        y=drawn.start.y + np.sin(heading) * travelled,
        scale=drawn.start.scale + still,
    )
    frames, masks = scene.painted(drawn, [(drawn, path)])
    return Rendered(frames, masks, {})


def _scene(settings: Synthetic, split: str, uniform: Uniform, digit: int | None = None) -> Scene:
    """Draw a scene around one of the split's images of a digit (any digit where None)."""
    images = digits.images_of(split)[uniform.integer(10) if digit is None else digit]
    return scene.draw(settings, int(images[uniform.integer(len(images))]), uniform)


def _reversed(path: Path) -> Path:
    return Path(x=path.x[::-1], y=path.y[::-1], scale=path.scale[::-1])


# The digits of a clip with several: each alone, all pairs, and ten of the threes, so that every
# digit occurs equally often.
GROUPS: tuple[tuple[int, ...], ...] = (
    *((digit,) for digit in range(10)),
    *combinations(range(10), 2),
    *(tuple(sorted({d, (d + 1) % 10, (d + 3) % 10})) for d in range(10)),
)

# The order is part of the random numbers' key: new ones go to the end.
VARIANTS: dict[str, Variant] = {
    "backgrounds": Variant(len(MOTIONS), _backgrounds),
    "objects": Variant(len(shapes.SHAPES), _objects),
    "speeds": Variant(len(SPEEDS), _speeds),
    "directions": Variant(len(HEADINGS), _directions),
    "counts": Variant(len(COUNTS), _counts),
    "several": Variant(len(GROUPS), _several),
}
