"""Clips whose frames are altered after they are read: an encoder is shown what it never learned.

Shapes: B clips, V views, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from pipeline.data.load.evaluation_clips import EvaluationBatch
from pipeline.evaluation.clips import Clips

Order = Literal["reversed", "shuffled", "still"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Alteration(Protocol):
    """A function of a clip and its id alone, which can be sent to other processes."""

    def __call__(self, clip: str, video: Tensor) -> Tensor:
        """Return uint8 (V,T,H,W,3) of the same shape as the clip's `video`."""


@dataclass(frozen=True)
class AlteredClips:
    """The same clips, read in the same way, with each one altered."""

    clips: Clips
    alteration: Alteration

    @property
    def ids(self) -> Sequence[str]:
        return self.clips.ids

    @property
    def views(self) -> int:
        return self.clips.views

    def batches(
        self, places: Sequence[int], batch_size: int, workers: int
    ) -> Iterator[EvaluationBatch]:
        for batch in self.clips.batches(places, batch_size, workers):
            if not batch.ids:
                yield batch
                continue
            pairs = zip(batch.ids, batch.videos, strict=True)
            videos = torch.stack([self.alteration(clip, video) for clip, video in pairs])
            yield replace(batch, videos=videos)


@dataclass(frozen=True)
class Reordered:
    """Frames backward, in random order, or the middle one throughout."""

    order: Order
    seed: int  # of random orders; each clip has its own, the same in all views and for all runs

    def __call__(self, clip: str, video: Tensor) -> Tensor:
        return video[:, torch.from_numpy(self.places(clip, video.shape[1]))]

    def places(self, clip: str, frames: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return which frame stands at each of the T places, (T,)."""
        own = np.arange(frames)
        if self.order == "reversed":
            return own[::-1].copy()
        if self.order == "still":
            return np.full(frames, frames // 2)
        digest = hashlib.sha256(f"{self.seed}:{clip}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        order = rng.permutation(own)
        while frames > 1 and (order == own).all():  # of few frames it is a frequent draw
            order = rng.permutation(own)
        return order
