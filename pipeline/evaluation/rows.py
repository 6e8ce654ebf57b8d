"""A row per clip, computed by a frozen network: resumable, and by any number of processes.

Features, tokens and the answers of a fine-tuned network are all made here. Each row depends on
its own clip alone, so the batch that it was computed in, the loader's workers and the number of
processes change nothing but the last bits of a float.

Letters: n clips, B of a batch, V views, T frames, H height, W width.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.evaluation.clips import Clips, VideoClips
from pipeline.method.pixels import normalise
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.devices import fast_fp32
from pipeline.runtime.files import atomic_path, reserve, write_text
from pipeline.runtime.progress import Progress

Array = NDArray[Any]
WRITTEN = 1 << 32  # in the checksum of a row that is there
FAILED = 1 << 33  # instead of one: the clip cannot be decoded


@dataclass(frozen=True)
class How:
    """Where and how fast rows are computed; none of it changes a row."""

    batch_size: int  # views at once
    workers: int = 0  # loader processes of each process
    processes: int = 1
    threads: int = 1  # of each process, on CPU
    label: str = "rows"  # begins the progress lines
    device: torch.device | None = None  # None: the accelerators there are, else the CPU


@dataclass(frozen=True)
class Rows:
    """`values` (n, V, ...), memory-mapped; `failed` (n,) is true where there is no such clip."""

    values: Array
    failed: NDArray[np.bool_]


class Store:
    """Rows on disk: PATH.npy, a checksum per row beside it, and what the rows depend on.

    A row counts as written where its checksum is right, so that neither a kill nor a power cut
    in the middle of a write leaves a row that is believed.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], shape: tuple[int, ...], kind: str):
        """Open the store at `path` (without suffix), or begin it anew where it is another's."""
        self.path, self.shape, self.kind = path, shape, np.dtype(kind)
        self._key = json.dumps({**key, "shape": shape, "dtype": kind}, sort_keys=True)
        if not self._is_ours():
            self._begin()

    def open(self) -> tuple[Array, NDArray[np.uint64]]:
        """Map the rows and their checksums into memory, for reading."""
        files = self._files()
        return np.load(files[0], mmap_mode="r"), np.load(files[1], mmap_mode="r")

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[int, Array | None], None]]:
        """Yield a function that writes one row; None says that its clip cannot be read.

        Rows go through the files, not through mapped memory: there a full disk would end the
        process by a signal (SIGBUS), without a word; here it is an OSError.
        """
        values, sums = self.open()
        with self._files()[0].open("r+b") as rows, self._files()[1].open("r+b") as known:

            def write(place: int, row: Array | None) -> None:
                said = FAILED
                if row is not None:
                    kept = np.ascontiguousarray(row, self.kind)
                    said = _sum(kept)
                    rows.seek(values.offset + place * values.strides[0])  # type: ignore[attr-defined]
                    rows.write(kept.data)
                    rows.flush()
                known.seek(sums.offset + place * sums.itemsize)  # type: ignore[attr-defined]
                known.write(np.uint64(said).tobytes())
                known.flush()

            yield write
            for file in (rows, known):
                os.fsync(file.fileno())

    def missing(self) -> list[int]:
        """Return the numbers of the rows that are not there, or damaged."""
        values, sums = self.open()
        known = enumerate(sums.tolist())
        return [k for k, said in known if said not in (FAILED, _sum(values[k]))]

    def remove(self) -> None:
        """Delete the files."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> tuple[Path, Path, Path]:
        name = self.path.name
        return tuple(self.path.with_name(name + end) for end in (".npy", ".sums.npy", ".key.json"))  # type: ignore[return-value]

    def _is_ours(self) -> bool:
        try:
            if self._files()[2].read_text(encoding="utf-8") != self._key:
                return False
            values, sums = self.open()
        except (OSError, ValueError):  # absent, or cut short
            return False
        return (values.shape, values.dtype) == (self.shape, self.kind) and len(sums) == len(values)

    def _begin(self) -> None:
        self.remove()
        files = self._files()
        for file, shape, kind in (
            (files[0], self.shape, self.kind),
            (files[1], self.shape[:1], np.dtype(np.uint64)),
        ):
            with atomic_path(file) as temporary:
                size = math.prod(shape) * kind.itemsize
                with temporary.open("wb") as body:
                    header = {"descr": kind.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(body, header)
                    body.flush()
                    reserve(body.fileno(), body.tell() + size)
        write_text(files[2], self._key)


def compute(
    network: nn.Module,
    clips: Clips,
    row: tuple[int, ...],
    *,
    path: Path,
    key: Mapping[str, Any],
    how: How,
    kind: str = "float32",
    tokens: int = 0,
) -> Rows:
    """Compute what `network` says of every view of every clip, or go on where that stopped.

    Args:
        network: maps normalised videos (b, 3, T, H, W) to (b, *row); evaluated without gradients.
        clips: n clips in V views each.
        row: shape of what it says of one view.
        path: of the store, without suffix; it stays until the caller removes it.
        key: what the rows depend on (hashes, settings); another's rows are not taken up.
        kind: NumPy's name of the type that is stored.
        tokens: of a clip; decides which kernels are the fastest.

    Raises:
        UserError: where a clip cannot be decoded, unless `clips` leave such a one out.
    """
    ids = clips.ids
    body = {**key, "ids": zlib.crc32("\n".join(ids).encode()), "views": clips.views}
    store = Store(path, body, (len(ids), clips.views, *row), kind)
    waiting = store.missing()
    parts = np.array_split(np.array(waiting, dtype=int), max(1, min(how.processes, len(waiting))))
    named = [replace(how, label=_part(how.label, k, len(parts))) for k in range(len(parts))]
    jobs = [
        Job(network, clips, store, part.tolist(), named[k], tokens, k)
        for k, part in enumerate(parts)
        if len(part)
    ]
    if len(jobs) == 1:
        jobs[0].run()
    elif jobs:
        _in_processes(jobs)
    values, sums = store.open()
    return Rows(values, np.asarray(sums == FAILED))


@dataclass
class Job:
    """The rows that one process computes."""

    network: nn.Module
    clips: Clips
    store: Store
    places: Sequence[int]
    how: How
    tokens: int
    number: int

    def run(self) -> None:
        """Compute the rows and write each as soon as it is there."""
        torch.set_num_threads(self.how.threads)
        device = self.how.device or _device(self.number)
        network = self.network.to(device).eval()
        with (
            inference(device, self.tokens),
            self.store.writing() as write,
            Progress(self.how.label, len(self.places), "clips") as progress,
        ):
            for places in self.turns():
                for place, row in self.rows(places, network, device):
                    write(place, row)
                    if row is not None:
                        progress.advance()

    def turns(self) -> list[Sequence[int]]:
        """Return the places in order; where views are shared, in two parts, the later one first.

        Where that begins depends on the label, so that encoders that look at the same clips at the
        same time decode different ones for each other (`clips.view_cache`). It is where a batch
        begins, so that all batches are the ones they would be.
        """
        if not (isinstance(self.clips, VideoClips) and self.clips.cache):
            return [self.places]
        each = max(1, self.how.batch_size // self.clips.views)
        first = zlib.crc32(self.how.label.encode()) % -(-len(self.places) // each) * each
        return [self.places[first:], self.places[:first]]

    def rows(
        self, places: Sequence[int], network: nn.Module, device: torch.device
    ) -> Iterator[tuple[int, Array | None]]:
        """Yield each place with its row, (V, ...); with None where the clip cannot be read."""
        ids, waiting = self.clips.ids, iter(places)
        for batch in self.clips.batches(places, self.how.batch_size, self.how.workers):
            if not batch.ids:  # none could be read
                continue
            found = answers(network, batch.videos, self.how.batch_size, device).cpu().numpy()
            for clip, row in zip(batch.ids, found, strict=True):
                for place in waiting:
                    if ids[place] == clip:
                        yield place, row
                        break
                    yield place, None  # left out by the loader
        yield from ((place, None) for place in waiting)


@contextlib.contextmanager
def inference(device: torch.device, tokens: int) -> Iterator[None]:
    """No gradients, and the fastest exact kernels for clips of so many tokens, while open."""
    with torch.inference_mode(), fast_fp32(device, tokens):
        yield


def answers(network: nn.Module, videos: Tensor, most: int, device: torch.device) -> Tensor:
    """Return (B, V, ...) for uint8 videos (B, V, T, H, W, 3), at most `most` views at a time."""
    views = videos.flatten(0, 1).split(most)  # type: ignore[no-untyped-call]
    found = torch.cat([network(normalise(part.to(device))).float() for part in views])
    return found.reshape(*videos.shape[:2], *found.shape[1:])


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


def _device(number: int) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", number % torch.cuda.device_count())
    return torch.device("cpu")


def _part(label: str, number: int, parts: int) -> str:
    return label if parts == 1 else f"{label} {number + 1}/{parts}"


def _sum(row: Array) -> int:
    return WRITTEN | zlib.crc32(np.ascontiguousarray(row).tobytes())
