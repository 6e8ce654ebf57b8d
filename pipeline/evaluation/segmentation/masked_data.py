"""The clips of one data set with masks: each is scored once and kept, and some are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.evaluation.segmentation import pictures
from pipeline.evaluation.segmentation.sources import Lost, Source
from pipeline.method.vit import Encoder
from pipeline.runtime.progress import Progress
from pipeline.runtime.store import Store


class Named(Protocol):
    """A dataclass with the clip's id."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """The clip's."""


Scored = TypeVar("Scored", bound=Named)


@dataclass(frozen=True, kw_only=True)
class MaskedDataJob(ABC, Generic[Scored]):
    """One data set, for one run's encoder."""

    unit: ClassVar[str]  # what progress counts

    source: Source
    encoder: Encoder
    key: Mapping[str, Any]  # all that the scores depend on but the clip
    label: str
    drawn: int  # so many clips are drawn
    threads: int = 1
    workers: int = 0

    @abstractmethod
    def outcomes(self, places: Sequence[int]) -> Iterator[Scored | Lost]:
        """Score the clips at these places, in order."""

    @abstractmethod
    def restored(self, clip: str, kept: Mapping[str, Any]) -> Scored:
        """Return what `asdict` was taken of, without the id."""

    @abstractmethod
    def strips(self, ids: Sequence[str]) -> Iterator[tuple[str, pictures.Picture]]:
        """Draw these clips; yield ids and pictures."""

    def score(self, store: Store) -> list[Scored | Lost]:
        """Return every clip's outcome; what the store holds is not done again."""
        ids = self.source.ids
        waiting = [place for place, clip in enumerate(ids) if not store.get(clip)]
        done = len(ids) - len(waiting)
        with (
            store.writing(),
            threadpool_limits(self.threads),
            Progress(self.label, len(ids), self.unit, done=done) as progress,
        ):
            for outcome in self.outcomes(waiting):
                kept = asdict(outcome)
                store.add(kept.pop("id"), **kept)
                progress.advance()
        kept_of = {clip: store.get(clip) for clip in ids}
        return [
            Lost(id=clip, **kept) if "outcome" in kept else self.restored(clip, kept)
            for clip, kept in kept_of.items()
        ]

    def draw(self, scored: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
        """Write strips of some of the scored clips; return each one's id and file."""
        with threadpool_limits(self.threads):
            return pictures.write(folder, self.strips(pictures.chosen(scored, self.drawn)))
