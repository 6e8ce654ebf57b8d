"""How much memory a step takes at its highest point, above what lay there before."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
MIB = 1 << 20


class PeakMemory:
    """The highest memory since `begin`, above that at `begin`: of the device or of this process.

    A process's is its resident set, and only Linux lets it be measured anew; elsewhere `highest`
    is the process's highest of all times.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0

    def begin(self) -> None:
        """Give back what nobody uses, and measure from here on."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        elif STATUS.exists():
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the highest resident set so far
            self.before = _status("VmRSS")

    def highest(self) -> int:
        """Bytes above those at `begin`."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        if STATUS.exists():
            return _status("VmHWM") - self.before
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
