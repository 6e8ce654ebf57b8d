"""From shards to batches of uint8 clips, for pretraining and for evaluation.

A batch is made from its step number alone (`clips.order`), in this process or in any number of
workers; the batches are the same. So the only position that a run has to remember is its step.

A clip passed decoding once, so where it cannot be read something happened to the shard since. It is
named in its batch, which is smaller by it (docs/architecture.md, "Clips that fail").

Shapes: B clips, V views, T frames, H height, W width, N tubes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.configuration.schema import Clip, ClipAugmentation, Paste, Views
from pipeline.data.load import clip_reader, crops, decoders, order, sampling, vector_speeds
from pipeline.data.load.failed_clips import ClipError, FailedClip, FailedClips
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.motion_vectors import Vectors
from pipeline.errors import UserError
from pipeline.method.masks import Mask, MaskArray
from pipeline.method.masks.base import ClipFacts, stacked

MIB = 2**20
OnFailure = Literal["stop", "report"]


@dataclass(frozen=True)
class Batch:
    """What one process trains on in one step: `batch_size / world` clips, but for `failed`."""

    step: int
    epoch: int  # of the batch's first sample
    videos: Tensor  # uint8 (B,T,H,W,3)
    masks: Tensor  # of each clip (B,N), or several (B,R,N), as `method.masks` has them
    ids: list[str]
    samples: tuple[tuple[int, int], ...] = ()  # (epoch, index) of each clip
    failed: tuple[FailedClip, ...] = ()


@dataclass(frozen=True)
class EvaluationBatch:
    """Some clips, each in V views: the segments in order, and in each its crops in order."""

    videos: Tensor  # uint8 (B,V,T,H,W,3)
    ids: list[str]
    failed: tuple[FailedClip, ...] = ()  # clips that should be here


class FrameSource:
    """Reads clips; keeps whole decoded clips in memory until `cache_mib` MiB are full.

    What is kept stays: each epoch asks for every clip once, in a new order, so replacing one
    clip by another would only cost. A clip for which there is no room is decoded just where
    frames are asked for. Clips that are stored as bytes are kept by the system already.
    """

    def __init__(self, cache_mib: int = 0, decoder: decoders.Decoder = "decord") -> None:
        self._room = cache_mib * MIB
        self._kept: dict[str, decoders.Frames] = {}
        self._decoder = decoder

    def read(
        self, entry: ClipEntry, indices: sampling.Indices, window: crops.Window | None = None
    ) -> decoders.Frames:
        """Return frames of a clip, or a window of each: uint8 (len(indices),h,w,3).

        Raises ClipError, a UserError that names the clip.
        """
        whole = self._kept.get(entry.id)
        if whole is None:
            size = 3 * entry.frames * entry.height * entry.width
            if size > self._room or entry.codec == "raw":
                return self._stored(entry, indices, window)
            whole = self._stored(entry, np.arange(entry.frames), None)
            self._room -= size
            self._kept[entry.id] = whole
        if window is None:
            return whole[indices]
        return whole[indices, window.rows, window.columns]

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
            return clip_reader.read(entry, indices, window, self._decoder)


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


@dataclass(frozen=True)
class PretrainingClips:
    """What is pretrained on, and how it is sampled: this alone decides the batches."""

    entries: Sequence[ClipEntry]
    clip: Clip
    mask: Mask | None
    tube: tuple[int, int, int]  # frames, rows, columns of pixels
    seed: int
    batch_size: int  # of all processes together
    masks_per_clip: int = 1
    paste: Paste | None = None  # objects

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubes of a clip along time, height and width."""
        frames, height, width = self.tube
        clip = self.clip
        return clip.frames // frames, clip.size // height, clip.size // width


@dataclass(frozen=True)
class LoaderOptions:
    """Where and how fast clips are loaded, and how many may fail; no pixel depends on it."""

    workers: int = 0  # processes; 0: this one
    cache_mib: int = 0  # of decoded clips, in each worker
    decoder: decoders.Decoder = "decord"
    max_failed_share: float = 0.0  # of the clips, in pretraining
    device: torch.device | None = None  # where clips are augmented, in pretraining


IN_THIS_PROCESS = LoaderOptions()


@dataclass
class PretrainingSteps(Dataset[Batch]):
    """Step number -> batch of one process. One copy lives in every worker."""

    clips: PretrainingClips
    source: FrameSource
    rank: int
    world: int

    def __getitem__(self, step: int) -> Batch:
        clips, size = self.clips, self.clips.clip.size
        chosen = order.batch(
            clips.seed,
            step,
            n=len(clips.entries),
            batch_size=clips.batch_size,
            rank=self.rank,
            world=self.world,
        )
        there: list[tuple[int, int]] = []
        failed: list[FailedClip] = []
        videos = np.empty((len(chosen), clips.clip.frames, size, size, 3), np.uint8)
        shared = order.step_rng(clips.seed, step)
        of_step = clips.mask.at_step(shared) if clips.mask else None
        masks: list[MaskArray] = []
        for epoch, index in chosen:
            try:
                videos[len(there)], mask = self.sample(epoch, index, of_step)
                masks.append(mask)
                there.append((epoch, index))
            except ClipError as error:
                failed.append(error.failed)
        return Batch(
            step=step,
            epoch=chosen[0][0],
            videos=torch.from_numpy(videos[: len(there)]),
            masks=torch.from_numpy(np.stack(masks)) if masks else torch.empty(0, 0),
            ids=[clips.entries[index].id for _, index in there],
            samples=tuple(there),
            failed=tuple(failed),
        )

    def sample(
        self, epoch: int, index: int, mask: Mask | None
    ) -> tuple[decoders.Frames, MaskArray]:
        """Return one clip as the model gets it, uint8 (T,H,W,3), and its mask or masks."""
        entry, clip = self.clips.entries[index], self.clips.clip
        rng = order.sample_rng(self.clips.seed, epoch, index)
        if clip.sampling == "dense":
            indices = sampling.dense_random(entry.frames, clip.frames, clip.stride, rng)
        else:
            indices = sampling.per_segment(entry.frames, clip.frames, rng)
        window = crops.multi_scale(entry.height, entry.width, clip.scales, rng)
        flip = rng.random() < 0.5 and clip.flip  # drawn either way: the mask stays the same
        part = self.source.read(entry, indices, window)
        video = crops.cut(part, window.whole, clip.size, flip=flip)
        facts = ClipFacts()
        if mask is not None and mask.needs_vectors:
            vectors = self.source.read_vectors(entry)
            speeds = vector_speeds.speeds(vectors, indices, window, self.clips.grid, flip=flip)
            facts = ClipFacts(speeds=speeds)
        if self.clips.paste is not None:
            from pipeline.data.load import pasting  # loads Pillow, which others do without

            video, boxes = pasting.paste(video, self.clips.paste, rng)
            facts = replace(facts, boxes=boxes)
        if mask is None:
            return video, np.empty(0, np.bool_)
        return video, stacked(list(self._masks(mask, rng, video, facts)))

    def _masks(
        self, mask: Mask, rng: np.random.Generator, video: decoders.Frames, facts: ClipFacts
    ) -> Iterator[MaskArray]:
        """Yield the masks of one clip: the first around its objects, each other around others."""
        for number in range(self.clips.masks_per_clip):
            if number and self.clips.paste is not None:
                from pipeline.data.load import pasting

                boxes = pasting.other_boxes(video, self.clips.paste, rng)
                facts = replace(facts, boxes=boxes)
            yield mask.draw_knowing(self.clips.grid, rng, video, facts)


def pretraining_batches(
    clips: PretrainingClips,
    steps: range,
    options: LoaderOptions = IN_THIS_PROCESS,
    *,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of these steps, in order: this process's `1 / world` of each.

    Without a mask there are no masks (B,0). Clips that cannot be read are missing from their batch,
    which names them, and are said on standard error. `clip.augmentation` is done by this process,
    on `options.device`, where the clips then are.

    Raises UserError at once where there is no clip, there are more workers than shards, or the
    decoder is not there; later where more than `max_failed_share` of the clips cannot be read, or
    no clip of a batch.
    """
    entries = clips.entries
    if not entries:
        raise UserError("there is no clip to pretrain on", remedy="see data.pretrain_splits")
    _check_workers(options.workers, len({entry.shard for entry in entries}))
    source = FrameSource(options.cache_mib, _present(options.decoder, entries))
    dataset = PretrainingSteps(clips, source, rank, world)
    batches = load_in_order(dataset, steps, options.workers)
    batches = _watched(batches, FailedClips(len(entries), options.max_failed_share))
    if clips.clip.augmentation is not None:
        batches = _augmented(batches, clips.clip.augmentation, clips.seed, options.device)
    return batches


def _watched(batches: Iterator[Batch], failures: FailedClips) -> Iterator[Batch]:
    """Pass batches on as long as few enough clips fail."""
    for batch in batches:
        failures.add(batch.failed, batch.step)
        if not batch.ids:
            where = f"this process's part of step {batch.step + 1:,}"
            raise failures.error(f"and none is left of {where}")
        yield batch


def _augmented(
    batches: Iterator[Batch], settings: ClipAugmentation, seed: int, device: torch.device | None
) -> Iterator[Batch]:
    """Pass batches on with their clips on `device` and changed there."""
    from pipeline.data.load.augment import augment  # torchvision takes a second, which few need

    for batch in batches:
        videos = augment(batch.videos.to(device), batch.samples, settings, seed=seed)
        yield replace(batch, videos=videos)


def _present(decoder: decoders.Decoder, entries: Sequence[ClipEntry]) -> decoders.Decoder:
    """Return the decoder that will be used; UserError where one is needed that is not there."""
    if any(entry.codec == "h264" for entry in entries):
        return decoders.chosen(decoder)
    return decoder


@dataclass
class EvaluationSteps(Dataset[EvaluationBatch]):
    """Number of a batch -> the clips in it, in their order."""

    entries: Sequence[ClipEntry]
    clip: Clip
    views: Views
    batch_size: int
    source: FrameSource
    on_failure: OnFailure
    cache: ViewCache | None = None

    def __getitem__(self, step: int) -> EvaluationBatch:
        some = self.entries[step * self.batch_size : (step + 1) * self.batch_size]
        videos = np.empty((len(some), *self.shape), np.uint8)
        ids: list[str] = []
        failed: list[FailedClip] = []
        for entry in some:
            try:
                videos[len(ids)] = self.known_views_of(entry)
                ids.append(entry.id)
            except ClipError as error:
                if self.on_failure == "stop":
                    raise
                failed.append(error.failed)
        return EvaluationBatch(torch.from_numpy(videos[: len(ids)]), ids, tuple(failed))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every view of a clip: V,T,H,W,3."""
        views = self.views.segments * self.views.crops
        return views, self.clip.frames, self.clip.size, self.clip.size, 3

    def known_views_of(self, entry: ClipEntry) -> decoders.Frames:
        """Return every view of a clip, out of the cache where there is one."""
        # Pixels that are stored as bytes or images cost no more to read than their views.
        if self.cache is None or entry.codec != "h264":
            return self.views_of(entry)
        try:
            path = self.cache.path(entry)
        except UserError:  # unreadable: said by what reads it next
            return self.views_of(entry)
        views = self.cache.read(path, self.shape)
        if views is None:
            views = self.views_of(entry)
            self.cache.write(path, views)
        return views

    def views_of(self, entry: ClipEntry) -> decoders.Frames:
        """Decode every view of a clip: uint8 (V,T,H,W,3)."""
        clip, views = self.clip, self.views
        if views.sampling == "dense":
            chosen = sampling.dense_centred(entry.frames, clip.frames, clip.stride, views.segments)
        else:
            chosen = sampling.per_segment_centred(entry.frames, clip.frames, views.segments)
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
    entries: Sequence[ClipEntry],
    clip: Clip,
    views: Views,
    batch_size: int,
    options: LoaderOptions = IN_THIS_PROCESS,
    *,
    on_failure: OnFailure = "stop",
    cache: ViewCache | None = None,
) -> Iterator[EvaluationBatch]:
    """Yield all clips in their order, each in `views.segments` x `views.crops` fixed views.

    A clip that cannot be read raises UserError (`stop`), or is missing from its batch, which names
    it and may then be empty (`report`).
    """
    source = FrameSource(decoder=_present(options.decoder, entries))
    dataset = EvaluationSteps(entries, clip, views, batch_size, source, on_failure, cache)
    return load_in_order(dataset, range(-(-len(entries) // batch_size)), options.workers)


def _check_workers(workers: int, shards: int) -> None:
    if workers > shards:
        raise UserError(
            f"there are more loader workers ({workers}) than shards to read ({shards})",
            place="trainer.workers, data.chunks",
            remedy=f"set trainer.workers to {shards} or less, or data.chunks to {workers} or more",
        )
