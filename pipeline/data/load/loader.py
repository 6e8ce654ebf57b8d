"""From shards to batches of uint8 clips and their masks, for pretraining.

A batch is made from its step number alone (`clips.order`), in this process or in any number of
workers; the batches are the same. So the only position that a run has to remember is its step.

A clip passed decoding once, so where it cannot be read something happened to the shard since. It is
named in its batch, which is smaller by it (docs/architecture.md, "Clips that fail").

Shapes: B clips, T frames, H height, W width, N tubes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.configuration.schema import Clip, ClipAugmentation, Paste
from pipeline.data.load import crops, decoders, order, prefetch, sampling, vector_speeds
from pipeline.data.load.failed_clips import ClipError, FailedClip, FailedClips
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.mixture import ClipMixture
from pipeline.data.load.options import IN_THIS_PROCESS, LoaderOptions, check_workers, present
from pipeline.data.load.shared_videos import SharedVideos, empty
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.clip_table import counts
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.remote import Wanted
from pipeline.errors import UserError
from pipeline.method.masks import Mask, MaskArray
from pipeline.method.masks.base import ClipFacts, stacked


@dataclass(frozen=True)
class Batch:
    """What one process trains on in one step: `batch_size / world` clips, but for `failed`."""

    step: int
    epoch: int  # in which the step begins
    videos: Tensor  # uint8 (B,T,H,W,3)
    masks: Tensor  # of each clip (B,N), or several (B,R,N), as `method.masks` has them
    ids: list[str]
    samples: tuple[tuple[int, int], ...] = ()  # (epoch, index) of each clip
    failed: tuple[FailedClip, ...] = ()


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
    mixture: ClipMixture | None = None  # which clips weigh how much; None: all the same

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubes of a clip along time, height and width."""
        frames, height, width = self.tube
        clip = self.clip
        return clip.frames // frames, clip.size // height, clip.size // width

    def batch_shape(self, world: int = 1) -> tuple[int, ...]:
        """Of the videos of a step in one of `world` processes: B,T,H,W,3."""
        size = self.clip.size
        return self.batch_size // world, self.clip.frames, size, size, 3


@dataclass
class PretrainingSteps(Dataset[Batch]):
    """Step number -> batch of one process. One copy lives in every worker."""

    clips: PretrainingClips
    source: FrameSource
    rank: int
    world: int
    shared: SharedVideos | None = None  # where the videos of a step are written

    def __getitem__(self, step: int) -> Batch:
        clips, chosen = self.clips, self._chosen(step)
        self.source.expect(step, self._wanted)
        there: list[tuple[int, int]] = []
        failed: list[FailedClip] = []
        videos = empty(self.shared, step, clips.batch_shape(self.world))
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
            epoch=order.epoch_of(step, n=len(clips.entries), batch_size=clips.batch_size),
            videos=torch.from_numpy(videos[: len(there)]),
            masks=torch.from_numpy(np.stack(masks)) if masks else torch.empty(0, 0),
            ids=[clips.entries[index].id for _, index in there],
            samples=tuple(there),
            failed=tuple(failed),
        )

    def _chosen(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, index of its clip) of each of this process's samples in a step."""
        return order.batch(
            self.clips.seed,
            step,
            n=len(self.clips.entries),
            batch_size=self.clips.batch_size,
            rank=self.rank,
            world=self.world,
            mixture=self.clips.mixture,
        )

    def _wanted(self, step: int) -> list[Wanted]:
        """Return the clips of a step, and which of their frames."""
        drawn = [(index, self._drawn(epoch, index)[1]) for epoch, index in self._chosen(step)]
        return [Wanted(self.clips.entries[k], sampling.ends(frames)) for k, frames in drawn]

    def _drawn(self, epoch: int, index: int) -> tuple[np.random.Generator, sampling.Indices]:
        """Return the random numbers of a sample, and its frames, which are drawn of them first."""
        clip = self.clips.clip
        rng = order.sample_rng(self.clips.seed, epoch, index)
        frames = self.clips.entries[index].frames
        return rng, sampling.random(frames, clip, clip.sampling, rng)

    def sample(
        self, epoch: int, index: int, mask: Mask | None
    ) -> tuple[decoders.Frames, MaskArray]:
        """Return one clip as the model gets it, uint8 (T,H,W,3), and its mask or masks."""
        entry, clip = self.clips.entries[index], self.clips.clip
        rng, indices = self._drawn(epoch, index)
        window = crops.pretraining_window(entry.height, entry.width, clip, rng)
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
    which names them, and are said on standard error. Their videos are on `options.device`, copied
    there a step ahead (`prefetch`), where this process does `clip.augmentation`, too.

    Raises UserError at once where there is no clip, there are more workers than shards, or the
    decoder is not there; later where more than `max_failed_share` of the clips cannot be read, or
    no clip of a batch.
    """
    entries = clips.entries
    if not entries:
        raise UserError("there is no clip to pretrain on", remedy="see data.pretrain_splits")
    if options.workers:
        check_workers(options.workers, len(counts(entries, "shard")))
    source = FrameSource(options.cache_mib, present(options.decoder, entries))
    shared = prefetch.shared_with_workers(options, clips.batch_shape(world))
    dataset = PretrainingSteps(clips, source, rank, world, shared)
    decodes_on = options.device if source.decoder == "nvdec" else None
    batches = load_in_order(dataset, steps, options.workers, shared, accelerator=decodes_on)
    batches = _watched(batches, FailedClips(len(entries), options.max_failed_share))
    batches = prefetch.on_device(batches, options.device, ahead=options.workers > 0)
    if clips.clip.augmentation is not None:
        batches = _augmented(batches, clips.clip.augmentation, clips.seed)
    return batches


def _watched(batches: Iterator[Batch], failures: FailedClips) -> Iterator[Batch]:
    """Pass batches on as long as few enough clips fail."""
    for batch in batches:
        failures.add(batch.failed, batch.step)
        if not batch.ids:
            where = f"this process's part of step {batch.step + 1:,}"
            raise failures.error(f"and none is left of {where}")
        yield batch


def _augmented(batches: Iterator[Batch], settings: ClipAugmentation, seed: int) -> Iterator[Batch]:
    """Pass batches on with their clips changed, on the device that they are on."""
    from pipeline.data.load.augment import augment  # torchvision takes a second, which few need

    for batch in batches:
        videos = augment(batch.videos, batch.samples, settings, seed=seed)
        yield replace(batch, videos=videos)
