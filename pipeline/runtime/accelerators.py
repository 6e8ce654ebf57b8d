"""The accelerators of this machine: which one to use, its name, memory, seeds and clock.

`PIPELINE_DEVICE` in the environment chooses between them and the CPU. It is no setting of
`params.yaml`: a device belongs to a machine, and does not make another experiment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.runtime import machine

KINDS = ("cuda", "xpu", "mps")  # NVIDIA's and AMD's, Intel's, Apple's
UNTRIED = {"xpu", "mps"}  # nobody has run this on one yet: used where they are asked for alone
VARIABLE = "PIPELINE_DEVICE"
COLLECTIVES = {"cuda": "nccl", "xpu": "xccl"}  # what processes with accelerators talk by


def kind() -> str | None:
    """The kind of accelerator that this process uses: one of `KINDS`; None: the CPU.

    Raises:
        UserError: where `PIPELINE_DEVICE` names one that is not there, or none at all.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked == "cpu":
        return None
    there = [each for each in KINDS if count(each)]
    if asked == "auto":
        return next((each for each in there if each not in UNTRIED), None)
    if asked not in KINDS:
        *others, last = "auto", "cpu", *KINDS
        raise UserError(
            f"{VARIABLE} is {asked!r}, which is no kind of device",
            place="environment",
            remedy=f"set it to {', '.join(others)} or {last}, or unset it",
        )
    if asked not in there:
        raise UserError(
            f"{VARIABLE} is {asked}, and torch {torch.__version__} sees none of this kind here",
            place="environment",
            remedy=f"set it to {' or '.join((*there, 'cpu'))}, or install torch for {asked}",
        )
    return asked


def count(name: str) -> int:
    """How many there are of a kind."""
    return int(torch.get_device_module(name).device_count())


def name_of(device: torch.device) -> str | None:
    """What a device calls itself; None for the CPU."""
    if device.type == "cpu":
        return None
    if device.type == "mps":
        named = getattr(torch.backends.mps, "get_name", None)  # newer versions of torch have it
        return str(named()) if named else "Apple's GPU"
    return str(_module(device).get_device_name(device))


def names() -> list[str]:
    """Of all accelerators of this machine, whether they are used or not."""
    if not torch.accelerator.is_available():
        return []
    devices = [torch.device(each, index) for each in KINDS for index in range(count(each))]
    return [str(name_of(device)) for device in devices]


def memory(device: torch.device) -> int:
    """Bytes that an accelerator has; of Apple's, which has the machine's, what it may well take."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return int(_module(device).get_device_properties(device).total_memory)


def peak_memory() -> int:
    """The most bytes that this process has held: of the accelerator where it uses one.

    Of Apple's, which keeps no such number, what it holds now, with what it keeps for later.
    """
    match kind():
        case None:
            return machine.peak_memory()
        case "mps":
            return torch.mps.driver_allocated_memory()
        case used:
            return int(torch.get_device_module(used).max_memory_allocated())


def empty_cache(device: torch.device) -> None:
    """Give back the memory that torch keeps for later."""
    if device.type != "cpu":
        _module(device).empty_cache()


def seed(device: torch.device, number: int) -> None:
    """Seed the random generator of an accelerator; the CPU's is left as it is."""
    if device.type != "cpu":
        _module(device).manual_seed(number)


def seconds(device: torch.device, action: Callable[[], object]) -> float:
    """How long a device works on what `action` asks of it."""
    if device.type == "cpu":
        began = time.perf_counter()
        action()
        return time.perf_counter() - began
    begin, end = (_module(device).Event(enable_timing=True) for _ in range(2))
    begin.record()
    action()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _module(device: torch.device) -> Any:
    """Such as `torch.cuda`."""
    return torch.get_device_module(device)
