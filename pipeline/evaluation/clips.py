"""What a network is evaluated on: clips with an id and a split, given batch by batch in views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.clips.frames import Decoder
from pipeline.clips.loader import EvaluationBatch, OnFailure, evaluation_batches
from pipeline.configuration.schema import Clip, Views
from pipeline.shards.format import ClipEntry


class Clips(Protocol):
    """Some clips of one kind, each in the same number of views."""

    @property
    def ids(self) -> Sequence[str]:
        """The clips' ids, in their order."""

    @property
    def views(self) -> int:
        """V, views of each clip."""

    def batches(
        self, places: Sequence[int], batch_size: int, workers: int
    ) -> Iterator[EvaluationBatch]:
        """Yield the clips at these places, in this order, with about `batch_size` views each.

        A clip that cannot be read stops this with a UserError, or is not in its batch.
        """


@dataclass(frozen=True)
class VideoClips:
    """Clips of a data set's shards."""

    entries: Sequence[ClipEntry]
    clip: Clip
    looked_at: Views
    on_failure: OnFailure = "stop"
    decoder: Decoder = "auto"

    @property
    def ids(self) -> Sequence[str]:
        return [entry.id for entry in self.entries]

    @property
    def views(self) -> int:
        return self.looked_at.segments * self.looked_at.crops

    def batches(
        self, places: Sequence[int], batch_size: int, workers: int
    ) -> Iterator[EvaluationBatch]:
        chosen = [self.entries[place] for place in places]
        clips = max(1, batch_size // self.views)
        return evaluation_batches(
            chosen,
            self.clip,
            self.looked_at,
            clips,
            workers=workers,
            decoder=self.decoder,
            on_failure=self.on_failure,
        )
