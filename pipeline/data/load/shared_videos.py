"""Shared memory that loader workers write videos into, the same memory for every so many batches.

A tensor that a worker hands over is otherwise new memory for each batch: mapped, cleared page by
page and copied into there, mapped again here and given back, at several times the cost of the
copy to an accelerator's pinned memory.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.data.load.decoders import Frames

PREFETCHED = 2  # batches that a worker makes ahead


class VideoBatch(Protocol):
    """A dataclass with the videos of a step, uint8; the rest of it stays on the host."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def videos(self) -> Tensor:
        """B,T,H,W,3, or with an axis of views after B."""


AnyBatch = TypeVar("AnyBatch", bound=VideoBatch)


@dataclass(frozen=True)
class Left:
    """A batch as it is handed over: its videos were left in the memory of its step."""

    batch: Any  # without videos
    step: int
    shape: tuple[int, ...]


class SharedVideos:
    """Memory for the videos of consecutive steps, of which `step % places` has one place.

    Videos are valid until the batch after them is asked for: until then `workers * PREFETCHED`
    further steps have been given to workers, and there is one place more.
    """

    def __init__(self, shape: tuple[int, ...], workers: int) -> None:
        """Allocate for batches of at most this shape, (B,T,H,W,3)."""
        places = workers * PREFETCHED + 1
        self.memory = torch.empty(places, math.prod(shape), dtype=torch.uint8)
        self.memory.share_memory_()  # type: ignore[no-untyped-call]

    def empty(self, step: int, shape: tuple[int, ...]) -> Frames:
        """Return the memory of a step, uint8, for a worker to write into."""
        return self._place(step, shape).numpy()

    def leave(self, batch: AnyBatch, step: int) -> Left:
        """Return what a worker hands over: the batch, whose videos are in its step's memory."""
        videos = batch.videos
        place = self._place(step, tuple(videos.shape))
        if videos.data_ptr() != place.data_ptr():
            raise ValueError(f"the videos of step {step} are not in its memory")
        return Left(replace(batch, videos=torch.empty(0)), step, tuple(videos.shape))

    def take(self, left: Left) -> Any:
        """Return the batch, with its videos."""
        return replace(left.batch, videos=self._place(left.step, left.shape))

    def _place(self, step: int, shape: tuple[int, ...]) -> Tensor:
        place: Tensor = self.memory[step % len(self.memory)]
        return place[: math.prod(shape)].view(shape)


def empty(shared: SharedVideos | None, step: int, shape: tuple[int, ...]) -> Frames:
    """Return memory for the videos of a step, uint8: shared, or where there is none of its own."""
    return np.empty(shape, np.uint8) if shared is None else shared.empty(step, shape)
