"""A row per clip, computed by a frozen network: resumable, and by any number of processes.

Features, tokens and the answers of a fine-tuned network are all made here. Each row depends on
its own clip alone, so the batch that it was computed in, the loader's workers and the number of
processes change nothing but the last bits of a float.

Shapes: n clips, B of a batch, V views, T frames, H height, W width.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.load import prefetch
from pipeline.errors import UserError
from pipeline.evaluation.clips import Clips, VideoClips
from pipeline.method.pixels import normalise, to_device
from pipeline.runtime import accelerators
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.devices import fast_fp32, tf32
from pipeline.runtime.progress import Progress
from pipeline.runtime.store import Store

Array = NDArray[Any]


@dataclass(frozen=True)
class ExecutionOptions:
    """Affects speed, never results."""

    batch_size: int  # views at once
    workers: int = 0  # loader processes of each process
    processes: int = 1
    threads: int = 1  # of each process, on CPU
    label: str = "rows"  # begins the progress lines
    device: torch.device | None = None  # None: the accelerators there are, else the CPU
    cache_mib: int = 0  # of decoded clips that fine-tuning keeps in memory

    def device_of(self, process: int = 0) -> torch.device:
        """Return where one of the processes computes."""
        if self.device is not None:
            return self.device
        kind = accelerators.kind()
        if kind is None:
            return torch.device("cpu")
        return torch.device(kind, process % accelerators.count(kind))


@dataclass(frozen=True)
class Rows:
    """The rows of clips, in `store` by the clip's id; `failed` clips could not be read."""

    ids: tuple[str, ...]
    failed: tuple[str, ...]
    store: Store

    def stacked(self, *row: int) -> Array:
        """Return all rows in memory, (n, *row): `row` is the shape of one."""
        rows = [self.store.values(clip) for clip in self.ids]
        return np.array(rows, self.store.dtype).reshape(len(rows), *row)


def compute(
    network: nn.Module, clips: Clips, store: Store, options: ExecutionOptions, tokens: int = 0
) -> Rows:
    """Compute what `network` says of every view of every clip, or go on where that stopped.

    Args:
        network: maps normalised videos (b, 3, T, H, W) to (b, ...); evaluated without gradients.
        clips: n clips in V views each.
        store: of the rows, (V, ...) each; it stays until the caller removes it.
        options: how fast.
        tokens: of a clip; decides which kernels are the fastest.

    Raises:
        UserError: where a clip cannot be decoded, unless `clips` leave such a one out.
    """
    waiting = [place for place, clip in enumerate(clips.ids) if not store.get(clip)]
    parts = np.array_split(np.array(waiting, int), max(1, min(options.processes, len(waiting))))
    if len(parts) == 1:
        Job(network, clips, store, waiting, options, tokens).run()
    else:
        labels = [f"{options.label} {number + 1}/{len(parts)}" for number in range(len(parts))]
        _in_processes(
            [
                Job(
                    network,
                    clips,
                    store.as_writer(number),
                    part.tolist(),
                    replace(options, label=labels[number]),
                    tokens,
                )
                for number, part in enumerate(parts)
            ]
        )
        store = store.as_writer(0)  # with what the processes have written
    has_failed = {clip: "failed" in store.get(clip) for clip in clips.ids}
    ids = tuple(clip for clip in clips.ids if not has_failed[clip])
    return Rows(ids, tuple(clip for clip in clips.ids if has_failed[clip]), store)


@dataclass
class Job:
    """The rows that one process computes."""

    network: nn.Module
    clips: Clips
    store: Store
    places: Sequence[int]
    options: ExecutionOptions
    tokens: int

    def run(self) -> None:
        """Compute the rows and write each as soon as it is there."""
        if not self.places:
            return
        torch.set_num_threads(self.options.threads)
        device = self.options.device_of(self.store.writer)
        network, ids = self.network.to(device).eval(), self.clips.ids
        with (
            inference(device, self.tokens),
            self.store.writing(),
            Progress(self.options.label, len(self.places), "clips") as progress,
        ):
            for places in self.turns():
                for place, row in self.rows(places, network, device):
                    if row is None:
                        self.store.add(ids[place], failed=True)
                    else:
                        self.store.add(ids[place], row)
                        progress.advance()

    def turns(self) -> list[Sequence[int]]:
        """Return the places in order; where views are shared, in two parts, the later one first.

        Where that begins depends on the label, so that encoders that look at the same clips at the
        same time decode different ones for each other (`clips.view_cache`). It is where a batch
        begins, so that all batches are the ones they would be.
        """
        if not (isinstance(self.clips, VideoClips) and self.clips.cache):
            return [self.places]
        each = max(1, self.options.batch_size // self.clips.views)
        first = zlib.crc32(self.options.label.encode()) % -(-len(self.places) // each) * each
        return [self.places[first:], self.places[:first]]

    def rows(
        self, places: Sequence[int], network: nn.Module, device: torch.device
    ) -> Iterator[tuple[int, Array | None]]:
        """Yield each place with its row, (V, ...); with None where the clip cannot be read."""
        ids, waiting, size = self.clips.ids, iter(places), self.options.batch_size
        batches = self.clips.batches(places, size, self.options.workers)
        for batch in prefetch.on_device(batches, device, ahead=self.options.workers > 0):
            if not batch.ids:  # none could be read
                continue
            rows = answers(network, batch.videos, size, device).cpu().numpy()
            for clip, row in zip(batch.ids, rows, strict=True):
                for place in waiting:
                    if ids[place] == clip:
                        yield place, row
                        break
                    yield place, None  # left out by the loader
        yield from ((place, None) for place in waiting)


@contextlib.contextmanager
def inference(device: torch.device, tokens: int) -> Iterator[None]:
    """No gradients, and the fastest kernels for clips of so many tokens, while open.

    Exact ones on a CPU; CUDA may use TF32 (docs/notes/accelerator.md).
    """
    with torch.inference_mode(), fast_fp32(device, tokens), tf32(device):
        yield


def answers(network: nn.Module, videos: Tensor, most: int, device: torch.device) -> Tensor:
    """Return (B, V, ...) for uint8 videos (B, V, T, H, W, 3), at most `most` views at a time."""
    views = videos.flatten(0, 1).split(most)  # type: ignore[no-untyped-call]
    outputs = torch.cat([network(normalise(to_device(part, device))).float() for part in views])
    return outputs.reshape(*videos.shape[:2], *outputs.shape[1:])


def _in_processes(jobs: Sequence[Job]) -> None:
    """Run each job in a process of its own; raise the first error."""
    # A fork of this process would copy CUDA's and OpenMP's state; the server's has neither, and
    # has imported all that takes long.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for job in jobs:
        job.network.cpu()
    with ProcessPoolExecutor(len(jobs), mp_context=context) as pool:
        for error in pool.map(_run, jobs):
            if error is not None:
                problem, place, remedy = error
                raise UserError(problem, place=place, remedy=remedy)


def _run(job: Job) -> tuple[str, str, str] | None:
    keep_freed_memory()
    try:
        job.run()
    except UserError as error:  # would not survive being pickled
        return error.problem, error.place, error.remedy
    return None
