"""From shards to batches of uint8 clips, for pretraining and for evaluation.

A batch is made from its step number alone (`clips.order`), in this process or in any number of
workers; the batches are the same. A clip that cannot be decoded stops the run with an error that
names it: it passed decoding once, so something happened to the shard since.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.clips import crops, frames, masks, order, sampling
from pipeline.clips.workers import in_order
from pipeline.configuration.schema import Clip, Mask, Views
from pipeline.errors import UserError
from pipeline.shards.format import ClipEntry
from pipeline.shards.index import read_bytes

MIB = 2**20


@dataclass(frozen=True)
class Batch:
    """What one process trains on in one step."""

    step: int
    epoch: int  # of the batch's first sample
    videos: Tensor  # uint8 (B,T,H,W,3)
    masks: Tensor  # bool (B,N), true is masked
    ids: list[str]


@dataclass(frozen=True)
class EvaluationBatch:
    """Some clips, each in V views: the segments in order, and in each its crops in order."""

    videos: Tensor  # uint8 (B,V,T,H,W,3)
    ids: list[str]


class FrameSource:
    """Decodes clips; keeps whole decoded clips in memory until `cache_mib` MiB are full.

    What is kept stays: each epoch asks for every clip once, in a new order, so replacing one
    clip by another would only cost. A clip for which there is no room is decoded just where
    frames are asked for.
    """

    def __init__(self, cache_mib: int = 0) -> None:
        self._room = cache_mib * MIB
        self._kept: dict[str, frames.Frames] = {}

    def read(self, entry: ClipEntry, indices: sampling.Indices) -> frames.Frames:
        """Return frames of a clip: uint8 (len(indices),H,W,3). Raises UserError naming it."""
        kept = self._kept.get(entry.id)
        if kept is not None:
            return kept[indices]
        try:
            shape = (entry.frames, entry.height, entry.width)
            if 3 * math.prod(shape) > self._room:
                return frames.read(read_bytes(entry), indices, shape)
            whole = frames.read(read_bytes(entry), np.arange(entry.frames), shape)
        except frames.DecodeError as error:
            raise UserError(
                f"clip {entry.id!r} cannot be decoded: {error}",
                place=str(entry.shard),
                remedy="the shard has changed since it was made: run the shard and index stages "
                "again",
            ) from None
        self._room -= whole.nbytes
        self._kept[entry.id] = whole
        return whole[indices]


@dataclass
class PretrainingSteps(Dataset["Batch | UserError"]):
    """Step number -> batch. One copy lives in every worker."""

    entries: Sequence[ClipEntry]
    clip: Clip
    mask: Mask
    grid: tuple[int, int, int]
    source: FrameSource
    seed: int
    batch_size: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> Batch | UserError:
        try:
            return self.batch(step)
        except UserError as error:
            return error  # an exception would reach the parent as text, with a traceback

    def batch(self, step: int) -> Batch:
        chosen = order.batch(
            self.seed,
            step,
            n=len(self.entries),
            batch_size=self.batch_size,
            rank=self.rank,
            world=self.world,
        )
        samples = [self.sample(epoch, index) for epoch, index in chosen]
        return Batch(
            step=step,
            epoch=chosen[0][0],
            videos=torch.from_numpy(np.stack([video for video, _ in samples])),
            masks=torch.from_numpy(np.stack([hidden for _, hidden in samples])),
            ids=[self.entries[index].id for _, index in chosen],
        )

    def sample(self, epoch: int, index: int) -> tuple[frames.Frames, masks.BoolArray]:
        """Return one clip as the model gets it, uint8 (T,H,W,3), and its mask, bool (N,)."""
        entry, clip = self.entries[index], self.clip
        rng = order.sample_key(self.seed, epoch, index)
        indices = sampling.dense_random(entry.frames, clip.frames, clip.stride, rng)
        window = crops.multi_scale(entry.height, entry.width, clip.scales, rng)
        flip = rng.random() < 0.5 and clip.flip  # drawn either way: the mask stays the same
        video = crops.cut(self.source.read(entry, indices), window, clip.size, flip=flip)
        return video, masks.draw(self.mask, self.grid, rng, video)


def pretraining_batches(
    entries: Sequence[ClipEntry],
    clip: Clip,
    mask: Mask,
    tube: tuple[int, int, int],
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    steps: int,
    workers: int = 0,
    cache_mib: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of steps first_step .. first_step + steps - 1, in order.

    `batch_size` is the global one; this process gets its `batch_size / world` clips of each. Each
    worker (or this process, without workers) keeps up to `cache_mib` MiB of decoded clips. Raises
    UserError at once where there is no clip, or there are more workers than shards.
    """
    if not entries:
        raise UserError("there is no clip to pretrain on", remedy="see data.pretrain_splits")
    _check_workers(workers, len({entry.shard for entry in entries}))
    dataset = PretrainingSteps(
        entries=entries,
        clip=clip,
        mask=mask,
        grid=(clip.frames // tube[0], clip.size // tube[1], clip.size // tube[2]),
        source=FrameSource(cache_mib),
        seed=seed,
        batch_size=batch_size,
        rank=rank,
        world=world,
    )
    return in_order(dataset, range(first_step, first_step + steps), workers)


@dataclass
class EvaluationSteps(Dataset["EvaluationBatch | UserError"]):
    """Number of a batch -> the clips in it, in their order."""

    entries: Sequence[ClipEntry]
    clip: Clip
    views: Views
    batch_size: int
    source: FrameSource

    def __getitem__(self, step: int) -> EvaluationBatch | UserError:
        some = self.entries[step * self.batch_size : (step + 1) * self.batch_size]
        try:
            videos = np.stack([self.views_of(entry) for entry in some])
        except UserError as error:
            return error
        return EvaluationBatch(torch.from_numpy(videos), [entry.id for entry in some])

    def views_of(self, entry: ClipEntry) -> frames.Frames:
        """Return every view of a clip: uint8 (V,T,H,W,3)."""
        clip, views = self.clip, self.views
        chosen = sampling.dense_centred(entry.frames, clip.frames, clip.stride, views.segments)
        video = self.source.read(entry, chosen.ravel())
        windows = crops.along_long_side(entry.height, entry.width, views.crops)
        return np.stack(
            [
                crops.cut(segment, window, clip.size)
                for segment in video.reshape(*chosen.shape, *video.shape[1:])
                for window in windows
            ]
        )


def evaluation_batches(
    entries: Sequence[ClipEntry], clip: Clip, views: Views, batch_size: int, workers: int = 0
) -> Iterator[EvaluationBatch]:
    """Yield all clips in their order, each in `views.segments` x `views.crops` fixed views."""
    dataset = EvaluationSteps(entries, clip, views, batch_size, FrameSource())
    return in_order(dataset, range(-(-len(entries) // batch_size)), workers)


def _check_workers(workers: int, shards: int) -> None:
    if workers > shards:
        raise UserError(
            f"there are more loader workers ({workers}) than shards to read ({shards})",
            place="trainer.workers, data.chunks",
            remedy=f"set trainer.workers to {shards} or less, or data.chunks to {workers} or more",
        )
