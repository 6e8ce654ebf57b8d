"""From an encoder and the masks of a first frame to masks of all frames.

Label propagation as Jabri et al. 2020 ("Space-Time Correspondence as a Contrastive Random Walk"),
Caron et al. 2021 (DINO) and Xu and Wang 2021 (VFS) evaluate features; `pipeline.method.propagation`
carries the labels. Theirs are features of frames; a `View` says what a frame's features are where
an encoder's tubes are several frames long.

Shapes: T frames of a video, L of the encoder's clips, S their size, H and W pixels of masks, h and
w tubes of a moment, N = h w, D width of a token, K objects and the background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.evaluation.propagation.settings import Propagation, View
from pipeline.evaluation.segmentation.metric import BACKGROUND
from pipeline.evaluation.segmentation.sources import VOID
from pipeline.method import propagation
from pipeline.method.pixels import normalise
from pipeline.method.vit import Encoder
from pipeline.runtime.devices import fast_fp32

Masks = NDArray[np.uint8]


def objects(first: Masks) -> list[int]:
    """The numbers of the objects in a first frame's masks (H,W)."""
    return sorted(set(np.unique(first).tolist()) - {BACKGROUND, VOID})


def features(
    encoder: Encoder, frames: NDArray[np.uint8], view: View, device: torch.device
) -> Tensor:
    """Return features T,N,D of all frames (T,S,S,3), on CPU.

    The encoder sees one clip for each frame, and one at a time: in a batch the last bits of a token
    depend on the clips beside it.
    """
    grid, pixels = encoder.grid, torch.from_numpy(frames)
    middle = grid.frames // 2
    rows = []
    with torch.inference_mode(), fast_fp32(device, grid.count):
        for frame in range(len(frames)):
            shown = window(frame, len(frames), grid.clip_shape[0], middle * grid.tube[0], view)
            tokens = encoder(normalise(pixels[shown][None].to(device)))[0]
            rows.append(tokens.reshape(grid.frames, -1, tokens.shape[-1])[middle].float().cpu())
    return torch.stack(rows)


def window(frame: int, count: int, length: int, place: int, view: View) -> NDArray[np.int64]:
    """Return which of a video's `count` frames are shown, (length,), for the features of one.

    It stands at `place`, where the middle tube begins, so that each frame has the same positions.
    Around it is what is around it in the video, whose first and last frame last; or it alone.
    """
    if view == "still":
        return np.full(length, frame)
    return np.clip(frame - place + np.arange(length), 0, count - 1)


def carried(tokens: Tensor, first: Masks, grid: tuple[int, int], settings: Propagation) -> Masks:
    """Return masks (T,H,W) from features T,N,D and the masks (H,W) of the first frame, as it is."""
    numbers = [BACKGROUND, *objects(first)]
    how = propagation.Propagation(
        settings.neighbourhood, settings.memory, settings.neighbours, settings.temperature
    )
    soft = propagation.propagate(tokens, shares(first, numbers, grid), grid, how)
    return np.stack([first, *(enlarged(each, numbers, grid, first.shape) for each in soft)])


def shares(mask: Masks, numbers: Sequence[int], grid: tuple[int, int]) -> Tensor:
    """Return the share N,K of each tube that background and objects cover; void is background."""
    known = np.where(mask == VOID, BACKGROUND, mask)
    layers = torch.stack([torch.from_numpy(known == number) for number in numbers])
    pooled = functional.adaptive_avg_pool2d(layers.double()[None], grid)[0]
    return pooled.flatten(1).T.float()


def enlarged(
    soft: Tensor, numbers: Sequence[int], grid: tuple[int, int], size: Sequence[int]
) -> Masks:
    """Return a mask (H,W) of the largest label at each pixel, from labels N,K of a frame's tubes.

    Each label is first stretched to lie between 0 and 1, as in the evaluation of CRW and DINO.
    """
    maps = soft.double().T.reshape(1, -1, *grid)
    maps = functional.interpolate(maps, tuple(size), mode="bilinear")[0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    stretched = torch.where(high > 0, (maps - low) / (high - low).clamp(min=1e-12), maps)
    mask: Masks = np.asarray(numbers, np.uint8)[stretched.argmax(0).numpy()]
    return mask
