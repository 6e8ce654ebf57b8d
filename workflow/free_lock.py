"""Clear the way for `make run` where an earlier one was killed, and for nobody else.

A killed Snakemake leaves its lock behind, and jobs that go on without it. The lock is removed only
when no Snakemake and no stage is at work in this folder.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

LOCKS = Path(".snakemake") / "locks"


def at_work(folder: Path) -> Iterator[psutil.Process]:
    """Yield the other processes that run Snakemake or a stage in `folder`."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid != psutil.Process().pid and Path(process.cwd()) == folder:
                names = [Path(word).name for word in words[:3]]
                if {"snakemake", "sigma-pipeline"} & {*names} or words[1:3] == ["-m", "pipeline"]:
                    yield process
        except psutil.Error:  # it has ended, or is somebody else's
            continue


def main() -> int:
    working = list(at_work(Path.cwd()))
    if working:
        print("error: another run is at work in this folder", file=sys.stderr)
        for process in working:
            print(f"  process {process.pid}: {' '.join(process.cmdline()[-6:])}", file=sys.stderr)
        stop = " ".join(str(process.pid) for process in working)
        print(f"  remedy: wait for it, or stop it with: kill {stop}", file=sys.stderr)
        return 2
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        print("an earlier run was killed: going on from where it was", file=sys.stderr)
        command = [sys.executable, "-m", "snakemake", "--unlock", "--quiet", "all"]
        return subprocess.run(command, check=False).returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
