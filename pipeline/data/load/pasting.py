"""Objects that move through a clip, pasted over its pixels (SMILE, Thoker et al. 2025).

All that is random is drawn from the sample's own random numbers. Where objects are is told to the
mask (`Mask.draw_knowing`).

Shapes: T frames, H = W pixels, K objects.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.configuration.schema import Paste
from pipeline.data.load.crops import Frames
from pipeline.data.load.order import randint
from pipeline.data.load.trajectories import Trajectories, TrajectorySettings, draw_trajectories
from pipeline.data.synthetic import digits
from pipeline.errors import UserError
from pipeline.method.masks.base import Boxes

DIGITS = "digits"  # the source that is no folder
SUFFIXES = {".png", ".webp"}
PLACE = "objective.paste.source"


def paste(video: Frames, settings: Paste, rng: np.random.Generator) -> tuple[Frames, Boxes]:
    """Return a copy of a clip, uint8 (T,H,W,3), with objects on it, and their boxes (K,T,4).

    The larger an object is at first, the further behind it lies. Raises UserError where there are
    no pictures of objects.
    """
    objects = [cutout(settings.source, rng) for _ in range(settings.count)]
    moving = _moving(video, settings, rng)
    boxes = _whole(moving)
    sides = boxes[:, 0, 2:] - boxes[:, 0, :2]
    pictures = [Image.fromarray(frame) for frame in video]
    for number in np.argsort(-sides.prod(axis=1), kind="stable"):
        for picture, box, angle in zip(
            pictures, boxes[number].tolist(), moving.angles[number].tolist(), strict=True
        ):
            _lay(objects[number], picture, box, int(angle))
    return np.stack([np.asarray(picture) for picture in pictures]), boxes


def other_boxes(video: Frames, settings: Paste, rng: np.random.Generator) -> Boxes:
    """Draw where further objects would be, which are not pasted."""
    return _whole(_moving(video, settings, rng))


def _moving(video: Frames, settings: Paste, rng: np.random.Generator) -> Trajectories:
    frames, size = video.shape[:2]
    return draw_trajectories(TrajectorySettings.for_size(size), settings.count, frames, size, rng)


def _whole(moving: Trajectories) -> Boxes:
    return np.round(moving.boxes).astype(np.int64)


def _lay(cut: Image.Image, picture: Image.Image, box: list[int], angle: int) -> None:
    """Bring a cut-out to the size of a box, turn it around its middle, and paste it there."""
    left, top, right, bottom = box
    size = max(1, right - left), max(1, bottom - top)
    turned = cut.resize(size, Image.Resampling.BILINEAR).rotate(
        angle, Image.Resampling.BILINEAR, expand=True
    )
    corner = (left + right - turned.width) // 2, (top + bottom - turned.height) // 2
    picture.paste(turned, corner, turned)


def cutout(source: str, rng: np.random.Generator) -> Image.Image:
    """Draw an object from a source (`Paste.source`): RGBA, no larger than its visible part."""
    if source == DIGITS:
        return _visible(_digit(rng), DIGITS)
    paths = _pictures(source)
    path = paths[randint(rng, len(paths))]
    try:
        with Image.open(path) as file:
            return _visible(file.convert("RGBA"), str(path))
    except OSError as error:
        raise UserError(f"{path} is no picture that can be read: {error}", place=PLACE) from None


def _visible(picture: Image.Image, name: str) -> Image.Image:
    box = picture.getchannel("A").getbbox()
    if box is None:
        raise UserError(f"nothing of {name} is visible: it is transparent all over", place=PLACE)
    return picture.crop(box)


def _digit(rng: np.random.Generator) -> Image.Image:
    """Draw a digit of the embedded data's training split, in one colour."""
    images = digits.images_of("train")[randint(rng, 10)]
    opacity = digits.glyph(int(images[randint(rng, len(images))]))
    colour = (256 * rng.random(3)).astype(np.uint8)
    alpha = np.rint(255 * opacity).astype(np.uint8)[..., None]
    pixels = np.broadcast_to(colour, (*opacity.shape, 3))
    return Image.fromarray(np.concatenate((pixels, alpha), axis=-1), "RGBA")


@cache
def _pictures(folder: str) -> tuple[Path, ...]:
    """Return all pictures below a folder, in the order of their paths."""
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(
            f"there are no PNG or WebP pictures of objects below {folder}",
            place=PLACE,
            remedy=f"name a folder of cut-outs with an alpha channel, or '{DIGITS}'",
        )
    return tuple(found)
