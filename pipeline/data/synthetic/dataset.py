"""The data set as a list of clips: which there are, their labels, and their frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import digits, scene
from pipeline.data.synthetic.motions import MOTIONS
from pipeline.data.synthetic.randomness import Stream, Uniform
from pipeline.errors import UserError

SPLITS = ("train", "val", "test")


class Rendered(NamedTuple):
    """One clip: `frames` uint8 T,H,W,3; `masks` uint8 T,H,W (0 background, 1 digit)."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    labels: dict[str, str]


def rows(settings: Synthetic) -> list[dict[str, str]]:
    """Return the source manifest: a row per clip, in the order of splits and numbers.

    Raises:
        UserError: where `settings.motions` names a motion that there is not.
    """
    unknown = [name for name in settings.motions if name not in MOTIONS]
    if unknown or len(set(settings.motions)) < len(settings.motions):
        raise UserError(
            f"not a list of distinct motions: {', '.join(settings.motions)}",
            place="data.synthetic.motions",
            remedy=f"choose among {', '.join(MOTIONS)}",
        )
    listed = []
    for split in SPLITS:
        for index in range(getattr(settings, split)):
            labels = labels_of(settings, split, index)
            listed.append(
                {
                    "id": f"{split}-{index:05d}",
                    "synthetic": f"{split}:{index}",
                    "label": labels["motion"],
                    "split": split,
                    **labels,
                }
            )
    return listed


def labels_of(settings: Synthetic, split: str, index: int) -> dict[str, str]:
    """Return `motion` and `digit` of a clip: every combination once in each block of clips."""
    cells = len(settings.motions) * 10
    block, place = divmod(index, cells)
    order = Uniform(settings.seed, SPLITS.index(split), block, Stream.LABELS).permutation(cells)
    motion, digit = divmod(int(order[place]), 10)
    return {"motion": settings.motions[motion], "digit": str(digit)}


def render(settings: Synthetic, split: str, index: int) -> Rendered:
    """Draw one clip. Equal arguments give equal bytes; splits share no image and no seed."""
    labels = labels_of(settings, split, index)
    uniform = Uniform(settings.seed, SPLITS.index(split), index, Stream.SCENE)
    images = digits.images_of(split)[int(labels["digit"])]
    drawn = scene.draw(settings, int(images[uniform.integer(len(images))]), uniform)
    frames, masks = scene.picture(drawn, labels["motion"])
    return Rendered(frames, masks, labels)


def parse_id(clip: str) -> tuple[str, int]:
    """Return split and number of a clip from the id that `rows` gave it."""
    split, _, number = clip.rpartition("-")
    return parse(f"{split}:{number}")


def parse(spec: str) -> tuple[str, int]:
    """Read the `synthetic` column of a manifest: `train:17` is clip 17 of the split train.

    Raises:
        UserError: for anything else.
    """
    split, _, number = spec.partition(":")
    if split not in SPLITS or not number.isdecimal():
        raise UserError(
            f"not a synthetic clip: {spec!r}", remedy="write SPLIT:NUMBER, such as train:17"
        )
    return split, int(number)
