"""One clip: everything that is drawn for it but its motion, and its picture under a motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import digits, textures
from pipeline.data.synthetic.motions import MOTIONS, Path, Start, progress
from pipeline.data.synthetic.randomness import Uniform

Frames = NDArray[np.uint8]

DIGIT_TEXTURE = 32  # pixels across the texture that a digit carries, whatever its size
BACKGROUND_TEXTURE = 2  # frame sizes across the background's texture


@dataclass(frozen=True)
class Surface:
    """A colour and a texture around it."""

    colour: NDArray[np.float64]  # 3, in [0, 1]: the mean
    swing: NDArray[np.float64]  # 3: one standard deviation of the texture
    spectrum: textures.Spectrum


@dataclass(frozen=True)
class Scene:
    """What is drawn for a clip, independently of its motion."""

    size: int  # pixels of a side of the frame
    digit_size: tuple[float, float]
    start: Start
    opacity: NDArray[np.float32]  # GLYPH x GLYPH
    tilt: float  # radians
    digit: Surface
    background: Surface
    pan_x: NDArray[np.float64]  # T: pixels
    pan_y: NDArray[np.float64]


def draw(settings: Synthetic, image: int, uniform: Uniform) -> Scene:
    """Draw a scene around one digit image. The order of the draws is part of the data set."""
    start = _start(settings, uniform)
    heading, pan = uniform.between(0, 2 * np.pi), uniform.between(*settings.pan)
    distance = pan * np.arange(settings.frames)
    tilt = np.radians(uniform.between(-settings.tilt, settings.tilt))
    darker = uniform.integer(2) and settings.both_polarities
    lightness = settings.contrast * (-0.25 if darker else 0.25)
    ground = _surface(settings, settings.size * BACKGROUND_TEXTURE, 0.5 - lightness, uniform)
    digit = _surface(settings, DIGIT_TEXTURE, 0.5 + lightness, uniform)
    return Scene(
        size=settings.size,
        digit_size=settings.digit_size,
        start=start,
        opacity=digits.glyph(image),
        tilt=float(tilt),
        digit=digit,
        background=ground,
        pan_x=distance * np.cos(heading),
        pan_y=distance * np.sin(heading),
    )


def picture(scene: Scene, motion: str) -> tuple[Frames, Frames]:
    """Return the frames (T, H, W, 3) and masks (T, H, W; 1 is digit) of a scene under a motion."""
    kind = MOTIONS[motion]
    frames, masks = painted(scene, [(scene, kind.path(scene.start))])
    if kind.backwards:
        frames, masks = frames[::-1], masks[::-1]
    return np.ascontiguousarray(frames), np.ascontiguousarray(masks)


def painted(scene: Scene, objects: Sequence[tuple[Scene, Path]]) -> tuple[Frames, Frames]:
    """Lay the digits of some scenes, each on its path, over the background of `scene`.

    Returns the frames (T, H, W, 3) and the masks (T, H, W): 0 is background, n the n-th object,
    which hides those before it.
    """
    ground = textures.panned(scene.background.spectrum, scene.pan_x, scene.pan_y)
    ground = ground[:, : scene.size, : scene.size]
    mixed = scene.background.colour + ground[..., None] * scene.background.swing
    masks = np.zeros(ground.shape, dtype=np.uint8)
    for number, (each, path) in enumerate(objects, start=1):
        opacity, texture = _digit(each, path)
        above = each.digit.colour + texture[..., None] * each.digit.swing
        mixed = mixed + opacity[..., None] * (above - mixed)
        masks[opacity > 0.5] = number
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8), masks


def _start(settings: Synthetic, uniform: Uniform) -> Start:
    speed = uniform.between(*settings.speed)
    period = uniform.between(*settings.period)
    pace = progress(settings.frames, uniform.between(-settings.acceleration, settings.acceleration))
    return Start(
        x=uniform.between(0, settings.size),
        y=uniform.between(0, settings.size),
        scale=uniform.between(0, 1),
        angle=uniform.between(0, 2 * np.pi),
        radius=speed * period / (2 * np.pi),
        travelled=speed * pace,
        turned=pace / period,
    )


def _surface(settings: Synthetic, size: int, lightness: float, uniform: Uniform) -> Surface:
    """Draw a surface `size` pixels across: its tint, its texture and the texture's colours."""
    tint = settings.tint * (uniform.array(3) - 0.5)
    shade = 1.0 + 2 * settings.tint * (uniform.array(3) - 0.5)
    exponent = uniform.between(*settings.fall)
    return Surface(
        colour=lightness + tint - tint.mean(),
        swing=0.5 * settings.texture * shade,
        spectrum=textures.spectrum(uniform.array(size, size // 2 + 1), exponent),
    )


def _digit(scene: Scene, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the digit's opacity and texture at each pixel of each frame (both T, H, W)."""
    from scipy.ndimage import map_coordinates

    smallest, largest = scene.digit_size
    across = smallest * (largest / smallest) ** path.scale  # T: even steps of the logarithm
    pixel = np.arange(scene.size) + 0.5
    dx = _around(pixel - path.x[:, None], scene.size)[:, None, :]
    dy = _around(pixel - path.y[:, None], scene.size)[:, :, None]
    cos, sin = np.cos(scene.tilt), np.sin(scene.tilt)
    u = (cos * dx + sin * dy) / across[:, None, None]  # -0.5 .. 0.5 inside the digit's square
    v = (cos * dy - sin * dx) / across[:, None, None]
    place = np.stack([v, u]) * digits.GLYPH + (digits.GLYPH - 1) / 2
    opacity = map_coordinates(scene.opacity, place, order=1, mode="constant")
    flat = textures.panned(scene.digit.spectrum, np.zeros(1), np.zeros(1))[0]
    texture = map_coordinates(flat, place, order=1, mode="grid-wrap")
    return opacity, texture


def _around(distance: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the shortest signed distance on a circle of this size."""
    return (distance + size / 2) % size - size / 2
