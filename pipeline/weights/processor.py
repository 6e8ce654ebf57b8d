"""Whether the image processor beside a Hugging Face model gives the pixels that models get here.

What counts is the one map from a byte to a number that all of its settings make together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.method.pixels import MEAN, STD
from pipeline.runtime.files import read_mapping

Channels = tuple[float, float, float]

FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
WITHIN = ("image_processor", "video_processor")  # of processor_config.json
FLAGS = ("do_rescale", "do_normalize")
OFFSETS = ("offset", "rescale_offset")  # of ViViT and of EfficientNet: one is taken off
# What else a processor may do to pictures: here their short side is scaled, and the middle cut out.
HARMLESS = {
    *("do_resize", "do_center_crop", "do_convert_rgb", "do_sample_frames", "do_reduce_labels"),
    *FLAGS,
}
STANDARD = (0.5, 0.5, 0.5)  # mean and deviation of Transformers' VideoMAE where a file says none
TOLERANCE = 1e-3


def check(place: Path, size: int) -> None:
    """Refuse a model whose pictures are prepared in another way.

    Args:
        place: the model's directory, or a file in it.
        size: of its pictures, in pixels.

    Raises:
        UserError: one message with all that differs.
    """
    folder = place if place.is_dir() else place.parent
    for file in (folder / name for name in FILES):
        if not file.exists():
            continue
        for part in _processors(read_mapping(file)):
            if faults := [*_malformed(part), *_crops(part, size)] or list(_others(part)):
                raise UserError(
                    "; ".join(faults), place=str(file), remedy="use this model through Transformers"
                )
            _note(part, size, file)


def _processors(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    parts = [content[key] for key in WITHIN if isinstance(content.get(key), Mapping)]
    yield from parts or [content]


def _malformed(part: Mapping[str, Any]) -> Iterator[str]:
    for key in (*FLAGS, *OFFSETS):
        if not isinstance(part.get(key, True), bool):
            yield f"{key} is {_shown(part[key])}, neither true nor false"
    factor = part.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or factor <= 0:
        yield f"rescale_factor is {_shown(factor)}, no number above 0"
    for key in ("image_mean", "image_std"):
        value = part.get(key)
        if value is None:
            continue
        each = value if isinstance(value, list) else [value]
        if not all(map(_is_number, each)) or (isinstance(value, list) and len(each) != len(MEAN)):
            yield f"{key} is {_shown(value)}, not three numbers"
        elif key == "image_std" and min(each) <= 0:
            yield f"{key} is {_shown(value)}, not above 0"


def _crops(part: Mapping[str, Any], size: int) -> Iterator[str]:
    """Pictures that are cut to another size than the model's."""
    if part.get("do_center_crop", True) is False or (crop := part.get("crop_size")) is None:
        return
    sides = [crop, crop]
    if isinstance(crop, Mapping):
        sides = [crop.get("height"), crop.get("width")]
    if sides != [size, size]:
        yield f"its pictures are cut to {_shown(crop)}, the model is for {size} x {size} pixels"


def normalisation(folder: Path) -> tuple[Channels, Channels] | None:
    """Return mean and deviation of the pixels (from 0 to 1) that a model is given; None: not said.

    Raises:
        UserError: for settings that cannot be understood.
    """
    for file in (folder / name for name in FILES):
        for part in _processors(read_mapping(file)) if file.exists() else ():
            if faults := list(_malformed(part)):
                raise UserError("; ".join(faults), place=str(file))
            if part.get("do_normalize", True) and part.get("image_mean") is None:
                continue
            a, b = _map(part)
            return (a[0], a[1], a[2]), (b[0], b[1], b[2])
    return None


def _map(part: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return a and b of the map from a byte to (byte / 255 - a) / b, for each channel."""
    scale = part.get("rescale_factor", 1 / 255) if part.get("do_rescale", True) else 1.0
    offset = float(any(part.get(key, False) for key in OFFSETS))
    mean, std = (_three(part.get(key)) for key in ("image_mean", "image_std"))
    if not part.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # (scale byte - offset - mean) / std = (byte / 255 - a) / b
    return [(each + offset) / scale / 255 for each in mean], [each / scale / 255 for each in std]


def _others(part: Mapping[str, Any]) -> Iterator[str]:
    """Anything that gives a byte another number than here."""
    for key, value in part.items():
        if key.startswith("do_") and key not in HARMLESS and value:
            yield f"it asks for {key}, which is not done here"
    a, b = _map(part)
    pairs = zip((*a, *b), (*MEAN, *STD), strict=True)
    if any(abs(theirs - ours) > TOLERANCE for theirs, ours in pairs):
        keys = (*FLAGS, "rescale_factor", *OFFSETS, "image_mean", "image_std")
        stated = [f"{key} {_shown(part[key])}" for key in keys if part.get(key) is not None]
        missing = [key for key in keys[-2:] if part.get(key) is None]
        stated += [f"no {key} (Transformers' own is 0.5)" for key in missing]
        yield (
            f"its pictures are normalised with {', '.join(stated)}; here with "
            f"rescale_factor 1/255, image_mean {list(MEAN)}, image_std {list(STD)}"
        )


def _note(part: Mapping[str, Any], size: int, file: Path) -> None:
    """Say where pictures are scaled to another size before they are cut."""
    scaled = part.get("size")
    side = scaled.get("shortest_edge") if isinstance(scaled, Mapping) else scaled
    if part.get("do_resize", True) and isinstance(side, int) and side > size:
        print(
            f"note: {file}: its pictures are scaled to {side} pixels before they are cut; "
            f"--short-side {side} does so here",
            file=sys.stderr,
        )


def _three(value: Any) -> tuple[float, ...]:
    if value is None:
        return STANDARD
    return tuple(value) if isinstance(value, list) else (value,) * len(MEAN)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    return str(value)[:60] if value is not None else "null"
