"""In which number format a run computes: float32, or mixed with one of half the size.

Weights, their moments, scores, assignments and losses are float32 always; under `bf16` and `fp16`
matrix products and what torch.autocast counts to them are of the smaller format. float16 has few
exponents, so losses are scaled up before the backward pass and gradients down after it, and a
step whose gradients have overflowed is left out (torch.amp.GradScaler). bfloat16 needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from pipeline.errors import UserError
from pipeline.method.capabilities import has_float64
from pipeline.runtime.accelerators import name_of

Setting = Literal["auto", "bf16", "fp16", "fp32"]
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Precision:
    """The format of matrix products on one device."""

    name: str
    device_type: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of autocast's products."""
        return TYPES[self.name]

    @property
    def is_mixed(self) -> bool:
        """Whether products are of less than float32."""
        return self.name != "fp32"

    @property
    def emulated(self) -> bool:
        """Whether it is a CPU without such products, which torch makes of slow single steps."""
        if self.device_type != "cpu" or not self.is_mixed:
            return False
        return not getattr(torch.ops.mkldnn, f"_is_mkldnn_{self.name}_supported")()

    @property
    def measured_as(self) -> str:
        """The format whose largest speed says what the device could do."""
        return "fp32" if self.emulated else self.name

    def warning(self, place: str) -> str:
        """What to say before work in it begins; empty where nothing is wrong."""
        if not self.emulated:
            return ""
        return (
            f"warning: {place}={self.name}, but this CPU has no such products, so steps take tens "
            "of times as long as in fp32: use fp32, or auto, which chooses by the device"
        )

    def autocast(self) -> torch.autocast:
        """A context for the forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.is_mixed)


def choose(
    setting: Setting,
    device: torch.device,
    *,
    place: str = "trainer.precision",
    scales: bool = True,
) -> Precision:
    """The format to use; `auto` is bf16 where the device has it, else fp16 (on a CPU fp32).

    Args:
        place: the setting's name, for errors.
        scales: whether the caller scales losses; otherwise `auto` is never fp16.

    Raises:
        UserError: where bf16 or fp16 is asked for on an accelerator that lacks what it needs.
    """
    has_bf16, has_fp16 = supports_bf16(device), supports_scaled_fp16(device)
    if setting == "auto":
        missing = "fp16" if scales and has_fp16 and device.type != "cpu" else "fp32"
        return Precision("bf16" if has_bf16 else missing, device.type)
    if setting == "bf16" and not has_bf16 and device.type != "cpu":  # a CPU is merely slow
        scaled = "fp16 (with scaled losses) or " if scales else ""
        raise UserError(
            f"{name_of(device)} has no bfloat16", place=place, remedy=f"use {scaled}fp32, or auto"
        )
    if setting == "fp16" and not has_fp16:
        raise UserError(
            f"{name_of(device)} has no float64, which torch scales losses with",
            place=place,
            remedy="use bf16 or fp32, or auto",
        )
    return Precision(setting, device.type)


def supports_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 by itself, and not by a detour over float32."""
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        return bool(module.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def supports_scaled_fp16(device: torch.device) -> bool:
    """Whether `torch.amp.GradScaler` works on the device: but on Apple's it wants float64."""
    return device.type == "mps" or has_float64(device)
