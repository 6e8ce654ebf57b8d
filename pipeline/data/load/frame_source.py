"""Frames of clips, out of their shards or out of memory.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import get_worker_info

from pipeline.data.load import clip_reader, crops, decoders, sampling
from pipeline.data.load.failed_clips import ClipError, FailedClip
from pipeline.data.shards import remote
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.motion_vectors import Vectors
from pipeline.errors import UserError

MIB = 2**20


class FrameSource:
    """Reads clips; keeps whole decoded clips in memory until `cache_mib` MiB are full.

    What is kept stays: each epoch asks for every clip once, in a new order, so replacing one
    clip by another would only cost. A clip for which there is no room is decoded just where
    frames are asked for. Clips that are stored as bytes are kept by the system already.
    """

    def __init__(self, cache_mib: int = 0, decoder: decoders.Decoder = "decord") -> None:
        self._room = cache_mib * MIB
        self._kept: dict[str, decoders.Frames] = {}
        self.decoder = decoder
        self._all_here = False  # once it is known that no storage is named

    def read(
        self, entry: ClipEntry, indices: sampling.Indices, window: crops.Window | None = None
    ) -> decoders.Frames:
        """Return frames of a clip, or a window of each: uint8 (len(indices),h,w,3).

        Raises ClipError, a UserError that names the clip.
        """
        whole = self._kept.get(entry.id)
        if whole is None:
            if not self._has_room(entry):
                return self._stored(entry, indices, window)
            whole = self._stored(entry, np.arange(entry.frames), None)
            self._room -= whole.nbytes
            self._kept[entry.id] = whole
        if window is None:
            return whole[indices]
        return whole[indices, window.rows, window.columns]

    def expect(self, step: int, wanted_of: Callable[[int], Sequence[remote.Wanted]]) -> None:
        """Ask for a step's clips, and this worker's next step's, where they come from afar.

        Such a clip takes as long as its store takes to answer. A loader's workers take turns.
        """
        if self._all_here:  # or each step would be put in order, and its clips looked up, twice
            return
        of_step = wanted_of(step)
        store = remote.of(of_step[0].entry.shard.parent) if of_step else None
        if store is None:
            self._all_here = bool(of_step)
            return
        worker = get_worker_info()
        both = (*of_step, *wanted_of(step + (worker.num_workers if worker else 1)))
        store.expect(
            remote.Wanted(entry, None if self._has_room(entry) else frames)
            for entry, frames in both
            if entry.id not in self._kept and not entry.shard.exists()
        )

    def _has_room(self, entry: ClipEntry) -> bool:
        """Tell whether the whole clip is kept in memory once it is read."""
        size = 3 * entry.frames * entry.height * entry.width
        return size <= self._room and entry.codec != "raw"

    def read_vectors(self, entry: ClipEntry) -> Vectors:
        """Return a clip's motion vectors, int8 (T,R,C,2) (`data.shards.motion_vectors`).

        Raises UserError where its shard has none, and ClipError where they cannot be read.
        """
        if not entry.motion:
            raise UserError(
                "masks are to follow motion vectors, which this shard does not hold",
                place=str(entry.shard),
                remedy="set data.shards.motion_vectors: true, and run the shard stage again",
            )
        with _naming(entry):
            return clip_reader.read_vectors(entry)

    def _stored(
        self, entry: ClipEntry, indices: sampling.Indices, window: crops.Window | None
    ) -> decoders.Frames:
        with _naming(entry):
            return clip_reader.read(entry, indices, window, self.decoder)


@contextlib.contextmanager
def _naming(entry: ClipEntry) -> Iterator[None]:
    """Turn what is wrong with a clip into an error that names it."""
    try:
        yield
    except (decoders.DecodeError, UserError) as error:
        reason = error.problem if isinstance(error, UserError) else str(error)
        problem = f"clip {entry.id!r} cannot be decoded: {reason}"
        failed = FailedClip(entry.id, f"{entry.shard.name}: {reason}")
        raise ClipError(problem, failed=failed, place=str(entry.shard)) from None
