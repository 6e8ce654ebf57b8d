"""Pairs of clips that begin alike, of which one goes on as the world does, and the other does not.

Of every scene two possible clips are drawn, and two impossible ones that begin as one of them and
end as the other. So all four show each frame's content equally often, and no frame alone tells the
possible from the impossible (as in IntPhys, Riochet et al. 2018).

- `vanish`: a digit passes behind an occluder; or there is no digit. Where it is hidden, it is lost,
  or one comes out that never went in.
- `jump`: a digit moves on a line, or on another one beside it; in one moment it is displaced.
- `change`: a digit moves; in one moment it becomes another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import digits, scene
from pipeline.data.synthetic.motions import Path
from pipeline.data.synthetic.randomness import Stream, Uniform
from pipeline.data.synthetic.scene import Frames, Scene
from pipeline.data.synthetic.tasks import View

Event = Literal["vanish", "jump", "change"]
EVENTS: tuple[Event, ...] = get_args(Event)
NUMBERS = 100  # the first event's place in the random numbers' key, beyond those of `tasks`
DIGIT_SIZE = (0.4, 0.5)  # in sides of the frame
OCCLUDER = 1.1  # its side by that of the digit's square
DISPLACEMENT = (0.3, 0.5)  # of a jump, in sides of the frame


def length(view: View) -> int:
    """Return the source frames of a clip: two of the model's, and the event between them."""
    return 2 * view.frames * view.stride


def render(
    event: Event, settings: Synthetic, view: View, split: str, number: int
) -> tuple[Frames, Frames]:
    """Return the two possible clips of one scene, each (T,H,W,3). Equal arguments, equal bytes.

    `spliced` makes the impossible ones of them.
    """
    place = NUMBERS + EVENTS.index(event)
    uniform = Uniform(settings.seed, Stream.TASKS, place, number)
    sizes = tuple(share * settings.size for share in DIGIT_SIZE)
    changed = {"frames": length(view), "digit_size": sizes}
    digit = uniform.integer(10)
    drawn = scene.draw(settings.model_copy(update=changed), _image(split, digit, uniform), uniform)
    heading = uniform.between(0, 2 * np.pi)
    path = Path.of(
        drawn.start,
        x=drawn.start.x + np.cos(heading) * drawn.start.travelled,
        y=drawn.start.y + np.sin(heading) * drawn.start.travelled,
    )
    return _DRAWN[event](drawn, path, (split, digit), uniform)


def spliced(first: Frames, second: Frames) -> Frames:
    """Return the clip that begins as the first and, from the middle on, is the second."""
    middle = len(first) // 2
    return np.concatenate([first[:middle], second[middle:]])


def _image(split: str, digit: int, uniform: Uniform) -> int:
    images = digits.images_of(split)[digit]
    return int(images[uniform.integer(len(images))])


def _vanish(
    drawn: Scene, path: Path, _digit: tuple[str, int], uniform: Uniform
) -> tuple[Frames, Frames]:
    smallest, largest = drawn.digit_size
    middle = len(path.x) // 2
    side = OCCLUDER * smallest * (largest / smallest) ** path.scale[middle]
    spectrum = drawn.background.spectrum
    colour = np.full(3, 0.5) + uniform.between(-0.1, 0.1)
    occluder = replace(
        drawn,
        digit_size=(side, side),
        opacity=np.ones_like(drawn.opacity),
        tilt=0.0,
        digit=scene.Surface(colour, np.zeros(3), spectrum),
    )
    still = np.zeros_like(path.x)
    place = Path(still + path.x[middle], still + path.y[middle], still)
    with_digit, _ = scene.painted(drawn, [(drawn, path), (occluder, place)])
    without, _ = scene.painted(drawn, [(occluder, place)])
    return with_digit, without


def _jump(
    drawn: Scene, path: Path, _digit: tuple[str, int], uniform: Uniform
) -> tuple[Frames, Frames]:
    by, heading = drawn.size * uniform.between(*DISPLACEMENT), uniform.between(0, 2 * np.pi)
    other = replace(path, x=path.x + by * np.cos(heading), y=path.y + by * np.sin(heading))
    return scene.painted(drawn, [(drawn, path)])[0], scene.painted(drawn, [(drawn, other)])[0]


def _change(
    drawn: Scene, path: Path, digit: tuple[str, int], uniform: Uniform
) -> tuple[Frames, Frames]:
    split, number = digit
    another = (number + 1 + uniform.integer(9)) % 10
    other = replace(drawn, opacity=digits.glyph(_image(split, another, uniform)))
    return scene.painted(drawn, [(drawn, path)])[0], scene.painted(drawn, [(other, path)])[0]


_DRAWN: dict[Event, Callable[[Scene, Path, tuple[str, int], Uniform], tuple[Frames, Frames]]] = {
    "vanish": _vanish,
    "jump": _jump,
    "change": _change,
}
