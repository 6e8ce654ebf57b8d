"""What a network is evaluated on: clips with an id and a split, given batch by batch in views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.configuration import stages
from pipeline.configuration.schema import Clip, Views
from pipeline.data.load import view_cache
from pipeline.data.load.decoders import Decoder
from pipeline.data.load.evaluation_clips import EvaluationBatch, OnFailure, evaluation_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.clip_table import at, ids_of
from pipeline.data.shards.format import ClipEntry

GIB = 2**30


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
    view_settings: Views
    on_failure: OnFailure = "stop"
    decoder: Decoder = "auto"
    cache: ViewCache | None = None

    @property
    def ids(self) -> Sequence[str]:
        return list(ids_of(self.entries))

    @property
    def views(self) -> int:
        return self.view_settings.segments * self.view_settings.crops

    def batches(
        self, places: Sequence[int], batch_size: int, workers: int
    ) -> Iterator[EvaluationBatch]:
        chosen = at(self.entries, places)
        clips = max(1, batch_size // self.views)
        return evaluation_batches(
            chosen,
            self.clip,
            self.view_settings,
            clips,
            LoaderOptions(workers=workers, decoder=self.decoder),
            on_failure=self.on_failure,
            cache=self.cache,
        )


def caches(
    root: Path, clip: Clip, clips: Mapping[Views, int], most_gib: float, label: str
) -> dict[Views, ViewCache]:
    """Return where each kind of view is kept for the encoders that follow; none where not.

    `clips` says how many clips are looked at in each kind of view. Where all of their pixels are
    more than `most_gib`, nothing is kept; else what was kept of other kinds makes room for them.
    """
    pixels = clip.frames * clip.size**2 * 3
    size = sum(count * kind.segments * kind.crops * pixels for kind, count in clips.items())
    if size > most_gib * GIB:
        problem = f"decoded views would take {size / GIB:.1f} GiB"
        print(f"[{label}] {problem}: decoded again for each run (evaluation.views_gib)")
        return {}
    code = stages.modules_sha256("pipeline.data.load.loader")
    kept = {kind: ViewCache.of(root, clip, kind, code) for kind in clips}
    folders = {cache.folder for cache in kept.values()}
    view_cache.evict(root, folders, int(most_gib * GIB) - size)
    return kept
