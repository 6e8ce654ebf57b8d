"""What loader workers stand on: a short TMPDIR, shared memory, memory, file descriptors."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.configuration.schema import Clip, Params, Trainer
from pipeline.data.load.workers import check_temporary_folder
from pipeline.errors import UserError
from pipeline.runtime.progress import binary_bytes

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where torch hands batches over
AHEAD = 2  # batches that torch's loader has each worker prepare in advance
TRIAL = 2**26  # bytes that are really written
PROCESS = 4 * 2**30  # bytes of one training process on a CPU, batches apart, generously
FEW_FILES = 1024


def workers(params: Params) -> Iterator[Finding]:
    """Whether the loaders of the greediest run will have what they need on this machine."""
    trainers = [run.trainer for run in params.runs.values()]
    needed = any(trainer.workers for trainer in trainers)
    yield _temporary_folder(needed=needed)
    shared = max(shared_bytes(trainer, params.data.clip) for trainer in trainers)
    yield _shared_memory(shared, needed=needed)
    yield _memory(max(_main_bytes(trainer) for trainer in trainers) + shared)
    yield _open_files()


def shared_bytes(trainer: Trainer, clip: Clip) -> int:
    """Return the shared memory that the workers of one node's processes fill with batches."""
    part = trainer.batch_size // (trainer.nodes * trainer.devices)
    batch = part * clip.frames * clip.size**2 * 3
    return trainer.devices * trainer.workers * AHEAD * batch


def _main_bytes(trainer: Trainer) -> int:
    return trainer.devices * (PROCESS + max(1, trainer.workers) * trainer.cache_mib * 2**20)


def _temporary_folder(*, needed: bool) -> Finding:
    folder = tempfile.gettempdir()
    try:
        check_temporary_folder()
    except UserError as error:
        return missing("TMPDIR", error.problem, error.remedy, needed=needed)
    return ok("TMPDIR", f"{folder}: short enough for the sockets of workers")


def _shared_memory(required: int, *, needed: bool) -> Finding:
    subject = "shared memory"
    if not SHARED_MEMORY.exists() and sys.platform != "linux":
        return ok(subject, f"no {SHARED_MEMORY} on this system, so no limit of its own")
    less = "set trainer.workers lower, or give more (containers: --shm-size)"
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            file.write(bytes(TRIAL))
            file.flush()
        room = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        problem = f"{SHARED_MEMORY}: {error.strerror}"
        return missing(subject, problem, less, needed=needed)
    free = room.f_bavail * room.f_frsize
    if free < required:
        problem = f"{binary_bytes(free)} free; batches of all workers take {binary_bytes(required)}"
        return missing(subject, problem, less, needed=needed)
    return ok(subject, f"{binary_bytes(free)} free, {binary_bytes(required)} needed")


def _memory(required: int) -> Finding:
    total = psutil.virtual_memory().total
    if total < required:
        return warning(
            "memory",
            f"{binary_bytes(total)}; training may take up to {binary_bytes(required)}",
            "set trainer.cache_mib, trainer.workers or trainer.batch_size lower",
        )
    return ok("memory", f"{binary_bytes(total)}, up to {binary_bytes(required)} needed")


def _open_files() -> Finding:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < FEW_FILES:
        problem = f"{limit:,} at once; each batch on its way takes some"
        return warning("open files", problem, f"ulimit -n {min(most, 65536)}")
    most_files = "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit:,} at once"
    return ok("open files", most_files)
