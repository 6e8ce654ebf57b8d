"""What a device can do of what the method would like: not all of it is everywhere.

CPUs and NVIDIA's and AMD's accelerators (`cuda`) have float64, Apple's (`mps`) have not, and of
Intel's (`xpu`) some.
"""

from __future__ import annotations

from typing import Any

import torch

# By kinds of devices, as `torch.device.type` has them.
WITHOUT_FLOAT64 = {"mps"}
WITH_STREAMS = {"cuda", "xpu"}
WITH_FLOAT32_SUMS = {"cuda"}  # `torch.mm` has an `out_dtype`
# A copy to these that is not waited for may read memory that has been given to others meanwhile:
# https://github.com/pytorch/pytorch/issues/189690
WAITED_FOR = {"mps"}


def widest_float(device: torch.device) -> torch.dtype:
    """The type in which sums of many numbers are added up: float64, or float32 without it."""
    if device.type in WITHOUT_FLOAT64:
        return torch.float32
    if device.type == "xpu" and not torch.xpu.get_device_properties(device).has_fp64:
        return torch.float32
    return torch.float64


def has_float64(device: torch.device) -> bool:
    """Whether the device computes with float64."""
    return widest_float(device) == torch.float64


def has_float32_sums(device: torch.device) -> bool:
    """Whether products of a type of half the size can be summed in float32, and stay in it."""
    return device.type in WITH_FLOAT32_SUMS


def has_streams(device: torch.device) -> bool:
    """Whether the device works on several queues at once, and copies from pinned memory beside."""
    return device.type in WITH_STREAMS


def streams(device: torch.device) -> Any:
    """The module with the streams and events of a device that has them, such as `torch.cuda`."""
    return torch.get_device_module(device)


def copies_safely(device: torch.device) -> bool:
    """Whether a copy to the device need not be waited for."""
    return device.type not in WAITED_FOR
