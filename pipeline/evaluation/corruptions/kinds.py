"""Corruptions of a clip in five strengths, each a pure function of the clip and its id.

Noise, blur, compression and brightness have the amounts of Hendrycks and Dietterich 2019,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (a blur as a share
of the side, theirs being 224 pixels). How much of a video is lost is this project's choice, after
Schiappa et al. 2023, "A Large-Scale Robustness Analysis of Video Action Recognition Models".

Shapes: V views, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipeline.evaluation.corruptions.settings import Kind

Video = NDArray[np.uint8]  # (V,T,H,W,3)

AMOUNTS: dict[Kind, tuple[float, float, float, float, float]] = {
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation; white is 1
    "blur": (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224),  # standard deviation, of the side
    "compression": (25, 18, 15, 10, 7),  # quality of JPEG
    "dropped": (0.125, 0.25, 0.375, 0.5, 0.75),  # share of frames that are black
    "repeated": (0.125, 0.25, 0.375, 0.5, 0.75),  # share of frames that the one before stands for
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added; white is 1
}


@dataclass(frozen=True)
class Corrupted:
    """One kind at one strength, from 1 to 5; an `Alteration`.

    What is random depends on seed, kind and id alone: a stronger noise is the weaker one times a
    number, and the frames that a weaker one loses a stronger one loses, too.
    """

    kind: Kind
    strength: int
    seed: int

    def __call__(self, clip: str, video: Tensor) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}:{self.kind}:{clip}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        amount = AMOUNTS[self.kind][self.strength - 1]
        return torch.from_numpy(_FUNCTIONS[self.kind](video.numpy(), amount, rng))


def noise(video: Video, amount: float, rng: np.random.Generator) -> Video:
    """Add Gaussian noise to every value."""
    return _bytes(video + 255 * amount * rng.standard_normal(video.shape, np.float32))


def blur(video: Video, amount: float, _rng: np.random.Generator) -> Video:
    """Blur each frame by a Gaussian."""
    deviation = amount * min(video.shape[2:4])
    return _bytes(gaussian_filter(video.astype(np.float32), (0, 0, deviation, deviation, 0)))


def compression(video: Video, amount: float, _rng: np.random.Generator) -> Video:
    """Encode each frame as JPEG, and decode it."""
    frames = video.reshape(-1, *video.shape[2:])
    return np.stack([_jpeg(frame, int(amount)) for frame in frames]).reshape(video.shape)


def dropped(video: Video, amount: float, rng: np.random.Generator) -> Video:
    """Make some frames black."""
    changed = video.copy()
    changed[:, lost(video.shape[1], amount, rng)] = 0
    return changed


def repeated(video: Video, amount: float, rng: np.random.Generator) -> Video:
    """Put the last frame that is not lost in the place of each lost one; the first one stays."""
    places = np.arange(video.shape[1])
    places[1 + lost(len(places) - 1, amount, rng)] = 0
    return video[:, np.maximum.accumulate(places)]


def brightness(video: Video, amount: float, _rng: np.random.Generator) -> Video:
    """Add to all values."""
    return _bytes(video + np.float32(255 * amount))


def lost(frames: int, amount: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which frames are lost: a share of them, at least one where there is any."""
    return rng.permutation(frames)[: max(1, round(amount * frames))]


def _jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def _bytes(values: NDArray[np.floating]) -> Video:
    return values.round().clip(0, 255).astype(np.uint8)


_FUNCTIONS: dict[Kind, Callable[[Video, float, np.random.Generator], Video]] = {
    "noise": noise,
    "blur": blur,
    "compression": compression,
    "dropped": dropped,
    "repeated": repeated,
    "brightness": brightness,
}
