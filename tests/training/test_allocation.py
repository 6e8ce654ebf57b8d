"""Freed memory is kept."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource
from pipeline.runtime.allocation import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def used_anew(times):
    before = faults()
    for _ in range(times):
        bytearray(b"x") * (32 << 20)
    return faults() - before

given_back = used_anew(4)
assert keep_freed_memory()
used_anew(1)
print(given_back, used_anew(4))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_not_asked_for_twice(project: Path) -> None:
    """A setting that glibc ignores would leave every step to fetch its pages anew."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=project, capture_output=True, text=True, check=True
    )
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 4 * (32 << 20) // 4096 // 2
    assert kept < given_back / 20
