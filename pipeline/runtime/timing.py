"""How long each job took: a file beside its log, with an entry per process that worked on it.

Manifests of data do not hold it: a later stage depends on their bytes, and equal work would then
look like new work. A job that was interrupted and goes on adds to what it has; one that had ended
and is done again begins anew.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.runtime.files import read_json, remove_leftovers, write_json
from pipeline.runtime.joblog import own_rank
from pipeline.runtime.machine import peak_memory


def sessions(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file, in order; none where it is absent or damaged.

    Each has `began` (ISO 8601, UTC) and `finished`; one whose process was not killed outright also
    `seconds` of wall clock, `cpu_seconds` (with those of finished child processes) and
    `peak_memory_mib` (of the largest process).
    """
    try:
        return [dict(entry) for entry in read_json(path)["sessions"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextlib.contextmanager
def recorded(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Record the block's time in `path`; of several processes of a run, rank 0 does.

    Nothing here fails a job: where the file cannot be written, a warning is printed.
    """
    if own_rank(environment) != "0":
        yield
        return
    before = sessions(path)
    if before and before[-1].get("finished"):
        before = []
    began, cpu = time.monotonic(), _cpu_seconds()
    remove_leftovers(path)
    entry: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": False,
    }
    _write(path, [*before, entry])
    try:
        yield
        entry["finished"] = True
    finally:
        entry |= {
            "seconds": round(time.monotonic() - began, 2),
            "cpu_seconds": round(_cpu_seconds() - cpu, 2),
            "peak_memory_mib": round(peak_memory(with_children=True) / 2**20),
        }
        _write(path, [*before, entry])


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    try:
        write_json(path, {"sessions": entries})
    except OSError as error:
        print(f"warning: the time that this takes is not recorded: {error}", file=sys.stderr)


def _cpu_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))
