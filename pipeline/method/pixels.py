"""From stored bytes to what the model sees, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.method.capabilities import copies_safely, has_streams, widest_float

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images, R G B in [0, 1]
STD = (0.229, 0.224, 0.225)


def normalise(videos: Tensor) -> Tensor:
    """Return (x / 255 - mean) / deviation: uint8 (B,T,H,W,3) to float32 (B,3,T,H,W).

    In memory a pixel's channels still adjoin.
    """
    width = videos.shape[-2]
    rows = videos.flatten(-2).to(torch.float32)  # whole rows of pixels: quicker than threes
    mean, deviation = (by_channel(v, rows.device).repeat(width) for v in (MEAN, STD))
    return rows.div_(255).sub_(mean).div_(deviation).view(videos.shape).permute(0, 4, 1, 2, 3)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on another device, whose queue of work is not waited for.

    CUDA waits for it before it copies from memory that is not pinned. A device that does not copy
    safely otherwise is waited for. float64 becomes float32 where the device has none.
    """
    if tensor.dtype == torch.float64:
        tensor = tensor.to(widest_float(device))
    if has_streams(device) and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=copies_safely(device))


def denormalise(videos: Tensor) -> Tensor:
    """Return the pixels in [0, 1] that `normalise` was given: float (B,3,T,H,W), R G B."""
    return videos * _column(STD, videos) + _column(MEAN, videos)


def by_channel(
    values: tuple[float, float, float], device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Three constants as a tensor (3,), written by the device itself: it is not waited for."""
    return torch.stack([torch.full((), value, device=device, dtype=dtype) for value in values])


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return by_channel(values, like.device, like.dtype).view(3, 1, 1, 1)
