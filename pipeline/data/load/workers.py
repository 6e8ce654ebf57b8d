"""Items made in other processes, handed over in order; and how those processes end."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.load.shared_videos import PREFETCHED, Left, SharedVideos
from pipeline.errors import UserError

Item = TypeVar("Item")

# A worker hands its batches over through a socket in a file, which multiprocessing names
# TMPDIR/pymp-RANDOM/listener-RANDOM; Linux allows such a path 107 bytes, macOS 103.
SOCKET = len("/pymp-12345678/listener-12345678")
LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107

IGNORED = (signal.SIGINT, signal.SIGUSR1)


@dataclass
class _CatchingErrors(Dataset["Item | UserError | Left"]):
    """A data set's items; a UserError is one, as an exception would reach the parent as text."""

    items: Dataset[Item]
    shared: SharedVideos | None

    def __getitem__(self, step: int) -> Item | UserError | Left:
        try:
            item = self.items[step]
        except UserError as error:
            return error
        return item if self.shared is None else self.shared.leave(item, step)  # type: ignore[type-var]


def load_in_order(
    dataset: Dataset[Item],
    steps: range,
    workers: int,
    shared: SharedVideos | None = None,
    *,
    accelerator: torch.device | None = None,
) -> Iterator[Item]:
    """Yield `dataset[step]` for each step, in order, made by `workers` processes (0: by this one).

    With `accelerator` that device is the workers' own, too. They begin as new processes then, which
    takes seconds: CUDA does not work in a fork of a process that has used it.

    With `shared`, items are batches whose videos are there, valid until the next item is asked for;
    steps follow each other, and there are workers.

    Raises:
        UserError: what an item raised, or the folder for temporary files has too long a name.
    """
    if workers:
        check_temporary_folder()
    loader = DataLoader(
        _CatchingErrors(dataset, shared),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=functools.partial(_begin, accelerator),
        multiprocessing_context=_start_method(accelerator) if workers else None,
        generator=torch.Generator(),  # or starting it would draw from the run's own generator
    )
    with _signals_held_back():
        items = iter(loader)  # starts the processes
    for item in items:
        if isinstance(item, UserError):
            raise item
        yield shared.take(item) if shared is not None else item


def _start_method(accelerator: torch.device | None) -> str | None:
    if accelerator is not None:
        return "spawn"
    # Python 3.14 would start a server first, and hand it the data set pickled.
    return "fork" if sys.platform == "linux" else None


def _begin(accelerator: torch.device | None, worker: int) -> None:
    _leave_signals_to_the_parent(worker)
    if accelerator is not None and accelerator.type == "cuda":
        torch.cuda.set_device(accelerator)


def check_temporary_folder() -> None:
    """Raise UserError where workers could hand nothing over: they would hang without a word."""
    folder = tempfile.gettempdir()
    longest = LONGEST_SOCKET_PATH - SOCKET
    length = len(os.fsencode(folder))
    if length > longest:
        raise UserError(
            f"the folder for temporary files has too long a name for loader workers: {length} "
            f"bytes, and {longest} are the most",
            place=f"TMPDIR: {folder}",
            remedy="set TMPDIR to a folder with a shorter name (export TMPDIR=/tmp), or "
            "trainer.workers to 0",
        )


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold back what a worker outlives, until it has learned to: a worker starts with this mask.

    Torch's own handlers, which a worker sets before it calls `worker_init_fn`, die of SIGTERM.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*IGNORED, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Make a worker outlive what a terminal or a scheduler sends to all processes.

    The parent may have a step to finish (`runtime.interruption`). A worker ends when the parent
    says so: by the loader's own means, or, where the parent ends in another way, by SIGTERM.
    """
    sys.excepthook = _say_but_for_lost_connections
    for number in IGNORED:  # SIGINT: or each prints a traceback
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()


def _say_but_for_lost_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The thread that hands batches over may lose a parent that ends while it takes one."""
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end_when_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _as_it_is(item: Item) -> Item:
    return item
