"""What Benchmark III (SEVERE) needs of the embedded data: small data sets, shifted away from it.

Each variant is the embedded data set with one thing changed: other backgrounds, other objects,
classes that differ by a little in speed or direction, oscillations to be counted, or several
objects at once. The first data set's own clips are drawn elsewhere (`dataset`), and are as before.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import digits, scene, shapes
from pipeline.data.synthetic.dataset import SPLITS, Rendered
from pipeline.data.synthetic.motions import MOTIONS, Array, Path
from pipeline.data.synthetic.randomness import Stream, Uniform
from pipeline.data.synthetic.scene import Frames, Scene

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


@dataclass(frozen=True)
class Request:
    """What one clip is drawn from: the number of its kind (`cell`), and its random numbers."""

    settings: Synthetic
    view: View
    cell: int
    split: str
    uniform: Uniform

    def scene(self, digit: int | None = None, changed: Mapping[str, object] | None = None) -> Scene:
        """Draw a scene around one of the split's images of a digit (any digit where None)."""
        number = self.uniform.integer(10) if digit is None else digit
        images = digits.images_of(self.split)[number]
        settings = self.settings.model_copy(update=changed)
        return scene.draw(settings, int(images[self.uniform.integer(len(images))]), self.uniform)


@dataclass(frozen=True)
class Variant:
    """A task's clips: `cells` kinds that occur equally often, and how one of a kind is drawn.

    `draw` returns frames, masks and the label.
    """

    cells: int
    draw: Callable[[Request], tuple[Frames, Frames, str]]


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
    frames, masks, label = kind.draw(Request(settings, view, cell, split, uniform))
    return Rendered(frames, masks, {"label": label})


def _backgrounds(request: Request) -> tuple[Frames, Frames, str]:
    motions = request.settings.motions
    motion = motions[request.cell % len(motions)]
    return *scene.picture(request.scene(changed=UNSEEN), motion), motion


def _objects(request: Request) -> tuple[Frames, Frames, str]:
    name, motions = list(shapes.SHAPES)[request.cell], request.settings.motions
    motion = motions[request.uniform.integer(len(motions))]
    drawn = replace(request.scene(), opacity=shapes.glyph(name))
    return *scene.picture(drawn, motion), name


def _speeds(request: Request) -> tuple[Frames, Frames, str]:
    speed = SPEEDS[request.cell]
    heading = np.pi / 2 * request.uniform.integer(4)
    travelled = np.arange(request.settings.frames) * np.float64(speed)
    return *_along(request.scene(), heading, travelled), f"{speed} pixels per frame"


def _directions(request: Request) -> tuple[Frames, Frames, str]:
    degrees, drawn = HEADINGS[request.cell], request.scene()
    return *_along(drawn, np.radians(degrees), drawn.start.travelled), f"{degrees} deg"


def _counts(request: Request) -> tuple[Frames, Frames, str]:
    """Draw exactly the frames that the model sees, so that every view has the whole count in it."""
    view, count, uniform = request.view, COUNTS[request.cell], request.uniform
    heading, sign = 2 * np.pi * uniform.between(0, 1), 1 - 2 * uniform.integer(2)
    drawn = request.scene(changed={"frames": view.span})
    turns = count * np.arange(view.span) / (view.frames * view.stride)
    # From one end of the swing: so that also the fastest one is seen to move.
    swing = sign * SWING * request.settings.size * np.cos(2 * np.pi * turns)
    return *_along(drawn, heading, swing), str(count)


def _several(request: Request) -> tuple[Frames, Frames, str]:
    """Draw one to three digits, all different, each with a motion of its own."""
    chosen, motions = GROUPS[request.cell], request.settings.motions
    objects = []
    for digit in chosen:
        drawn = request.scene(digit, SMALL)
        kind = MOTIONS[motions[request.uniform.integer(len(motions))]]
        path = kind.path(drawn.start)
        objects.append((drawn, path.reversed() if kind.backwards else path))
    return *scene.painted(objects[0][0], objects), SEPARATOR.join(map(str, chosen))


def _along(drawn: Scene, heading: float, travelled: Array) -> tuple[Frames, Frames]:
    """Move the digit along a straight line: `travelled` pixels from its start in each frame."""
    x = drawn.start.x + np.cos(heading) * travelled
    y = drawn.start.y + np.sin(heading) * travelled
    return scene.painted(drawn, [(drawn, Path.of(drawn.start, x=x, y=y))])


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
