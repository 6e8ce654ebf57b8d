"""Memory that one step frees and the next one asks for again (docs/notes/speed.md: a tenth of it).

The C library gives large blocks back to the system at once, and gets them again page by page, each
cleared anew: 400,000 pages in every step of ViT-S with four clips.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
GROWTH = 256 << 20  # bytes that the heap grows by


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for itself; return whether that can be had (glibc).

    It then never holds less than it once needed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, GROWTH))
    done = [mallopt(option, value) for option, value in settings]  # each, whatever the others say
    return done == [1] * len(settings)
