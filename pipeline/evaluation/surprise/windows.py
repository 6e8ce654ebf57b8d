"""Videos as sliding windows of the model's clips, read by workers and given one video at a time.

Shapes: n sampled frames of a video, V windows, T frames of each, S their size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.data.load.evaluation_clips import EvaluationBatch
from pipeline.data.load.workers import load_in_order
from pipeline.evaluation.surprise.videos import UnreadableError, VideoSource


def window_starts(frames: int, length: int, step: int) -> NDArray[np.int64]:
    """Return the sampled frames at which windows begin, (V,); one where the video is too short."""
    return np.arange(0, max(1, frames - length + 1), step)


def windows(frames: int, length: int, step: int) -> NDArray[np.int64]:
    """Return each window's sampled frames (V,T); a short video stands still at its end."""
    starts = window_starts(frames, length, step)
    chosen: NDArray[np.int64] = np.minimum(starts[:, None] + np.arange(length), frames - 1)
    return chosen


@dataclass(frozen=True)
class WindowedVideos:
    """Each video's windows as the views of a clip; videos may have different numbers of them."""

    source: VideoSource
    length: int  # T
    step: int  # sampled frames from one window to the next

    @property
    def ids(self) -> Sequence[str]:
        return [video.id for video in self.source.videos]

    @property
    def views(self) -> int:
        """V is not known before a video is read; a batch holds one video."""
        return 1

    def batches(
        self,
        places: Sequence[int],
        batch_size: int,  # noqa: ARG002 - a batch is a video
        workers: int,
    ) -> Iterator[EvaluationBatch]:
        """Yield the videos at these places one by one; one that cannot be read is left out."""
        return load_in_order(_Reading(self, places), range(len(places)), workers)


@dataclass
class _Reading(Dataset[EvaluationBatch]):
    clips: WindowedVideos
    places: Sequence[int]

    def __getitem__(self, number: int) -> EvaluationBatch:
        video = self.clips.source.videos[self.places[number]]
        try:
            frames = self.clips.source.read(video)
        except UnreadableError:
            return EvaluationBatch(torch.empty(0, dtype=torch.uint8), [])
        chosen = windows(len(frames), self.clips.length, self.clips.step)
        return EvaluationBatch(torch.from_numpy(frames[chosen])[None], [video.id])
