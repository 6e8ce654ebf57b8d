"""From shards to batches of uint8 clips for evaluation: fixed views of all clips, in their order.

Shapes: B clips, V views, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.configuration.schema import Clip, Views
from pipeline.data.load import crops, decoders, sampling
from pipeline.data.load.failed_clips import ClipError, FailedClip
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.options import IN_THIS_PROCESS, LoaderOptions, present
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.remote import Wanted
from pipeline.errors import UserError

OnFailure = Literal["stop", "report"]


def centred_view(clip: Clip) -> Views:
    """Return the one view of a clip that shows what training shows: sampled as `clip` is."""
    return Views(segments=1, crops=1, sampling=clip.sampling)


@dataclass(frozen=True)
class EvaluationBatch:
    """Some clips, each in V views: the segments in order, and in each its crops in order."""

    videos: Tensor  # uint8 (B,V,T,H,W,3)
    ids: list[str]
    failed: tuple[FailedClip, ...] = ()  # clips that should be here


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
        some = self._of_step(step)
        self.source.expect(step, self._wanted)
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

    def _of_step(self, step: int) -> Sequence[ClipEntry]:
        return self.entries[step * self.batch_size : (step + 1) * self.batch_size]

    def _wanted(self, step: int) -> list[Wanted]:
        """Return the clips of a batch, and which of their frames."""
        return [Wanted(each, sampling.ends(self._chosen(each))) for each in self._of_step(step)]

    def _chosen(self, entry: ClipEntry) -> sampling.Indices:
        """Return the frames of each segment of a clip: segments, T."""
        return sampling.centred(entry.frames, self.clip, self.views.sampling, self.views.segments)

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
        chosen = self._chosen(entry)
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
    it and may then be empty (`report`). Pixels are the same whatever decodes pretraining's clips.
    """
    source = FrameSource(decoder=present(decoders.of_exact_pixels(options.decoder), entries))
    dataset = EvaluationSteps(entries, clip, views, batch_size, source, on_failure, cache)
    return load_in_order(dataset, range(-(-len(entries) // batch_size)), options.workers)
