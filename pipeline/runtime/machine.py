"""What this machine gives to this process: processors, time and memory, on Linux and elsewhere."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def cores() -> int:
    """Cores that this process may use; where the system does not tell, those that there are."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_model() -> str | None:
    """The processor's name; None where it is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")  # Linux only; no names on ARM
    except OSError:
        text = ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or None


def peak_memory(*, with_children: bool = False) -> int:
    """The most bytes that this process, or the largest of its ended children, has held."""
    kinds = (resource.RUSAGE_SELF, *((resource.RUSAGE_CHILDREN,) if with_children else ()))
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * MAXRSS_UNIT
