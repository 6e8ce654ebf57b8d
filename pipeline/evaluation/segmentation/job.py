"""The clips of one data set at one length: encoded one by one, clustered, scored, and drawn.

Shapes: t, h, w tubes of a clip along time and space, D width of a token.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration.schema import Clip, Segmentation
from pipeline.evaluation.segmentation import pictures, scores
from pipeline.evaluation.segmentation.scores import ClipScore
from pipeline.evaluation.segmentation.sources import Lost, MaskedClip, Source, read_in_order
from pipeline.method.pixels import normalise
from pipeline.method.vit import Encoder
from pipeline.runtime.devices import choose_device, fast_fp32
from pipeline.runtime.progress import Progress
from pipeline.runtime.store import Store

Tokens = NDArray[np.float32]
Outcome = ClipScore | Lost
WAITING = 4  # clips per process that may wait to be clustered


@dataclass(frozen=True)
class Encoded:
    """A clip, and its tokens (t,h,w,D)."""

    clip: MaskedClip
    tokens: Tokens


@dataclass(frozen=True)
class SegmentationJob:
    """One data set at one clip length, for one run's encoder."""

    source: Source
    encoder: Encoder  # for clips of this length
    clip: Clip
    settings: Segmentation
    key: Mapping[str, Any]  # all that the scores depend on but the clip
    label: str
    threads: int = 1
    workers: int = 0

    @property
    def frames(self) -> int:
        """The length of a clip."""
        return self.encoder.grid.clip_shape[0]

    def score(self, store: Store) -> list[Outcome]:
        """Return every clip's outcome; what the store holds is not done again."""
        ids = self.source.ids
        with ExitStack() as stack:
            stack.enter_context(store.writing())
            waiting = [place for place, clip in enumerate(ids) if not store.get(clip)]
            done = len(ids) - len(waiting)
            progress = stack.enter_context(Progress(self.label, len(ids), "clips", done=done))
            stack.enter_context(threadpool_limits(self.threads))
            pool = None
            if self.settings.processes > 1 and waiting:
                context = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(
                    self.settings.processes, context, threadpool_limits, (1,)
                )
                stack.enter_context(pool)
            call = partial(_score, self.settings)
            most = WAITING * self.settings.processes
            for outcome in _in_turn(self._encoded(waiting), call, pool, most):
                store.add(outcome.id, **_entry(outcome))
                progress.advance()
            return [_outcome(clip, store.get(clip)) for clip in ids]

    def draw(self, scored: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
        """Write strips of some of the scored clips; return each one's id and file."""
        chosen = pictures.chosen(scored, self.settings.pictures)
        with threadpool_limits(self.threads):
            return pictures.write(folder, self._strips(chosen))

    def _strips(self, ids: Sequence[str]) -> Iterator[tuple[str, pictures.Picture]]:
        for each in self._encoded([self.source.ids.index(clip) for clip in ids]):
            if isinstance(each, Lost):
                continue
            segments = scores.answers(each.clip, each.tokens, self.settings)
            if not isinstance(segments, Lost):
                yield each.clip.id, pictures.strip(each.clip, *segments.values())

    def _encoded(self, places: Sequence[int]) -> Iterator[Encoded | Lost]:
        """Yield the clips at these places with their tokens.

        The encoder sees one clip at a time: in a batch the last bits of a token depend on the
        clips beside it, and k-means may turn such a bit into another segment.
        """
        torch.set_num_threads(self.threads)
        device, grid = choose_device(), self.encoder.grid
        encoder = self.encoder.to(device).eval()
        resolution = self.settings.resolution or self.clip.size
        read = partial(
            self.source.clip, frames=self.frames, size=self.clip.size, resolution=resolution
        )
        for clip in read_in_order(read, places, self.workers):
            if isinstance(clip, Lost):
                yield clip
                continue
            with torch.inference_mode(), fast_fp32(device, grid.count):
                videos = torch.from_numpy(clip.frames)[None].to(device)
                tokens = encoder(normalise(videos))[0].float().cpu().numpy()
            yield Encoded(clip, tokens.reshape(grid.frames, grid.height, grid.width, -1))


def key_of(settings: Segmentation, **inputs: Any) -> dict[str, Any]:
    """Return what scores depend on: settings that change them, and `inputs`."""
    neutral = {"name", "data", "frames", "processes", "pictures"}
    return {**inputs, "settings": settings.model_dump(mode="json", exclude=neutral)}


def _score(settings: Segmentation, each: Encoded | Lost) -> Outcome:
    if isinstance(each, Lost):
        return each
    return scores.score_clip(each.clip, each.tokens, settings)


def _in_turn(
    work: Iterator[Encoded | Lost],
    call: Callable[[Encoded | Lost], Outcome],
    pool: ProcessPoolExecutor | None,
    most: int,
) -> Iterator[Outcome]:
    """Yield `call` of each piece of work, in order, by the pool's processes or by this one."""
    if pool is None:
        yield from map(call, work)
        return
    jobs = [pool.submit(call, each) for each in islice(work, most)]
    while jobs:
        yield jobs.pop(0).result()
        jobs += [pool.submit(call, each) for each in islice(work, 1)]


def _entry(outcome: Outcome) -> dict[str, Any]:
    body = outcome.model_dump() if isinstance(outcome, ClipScore) else asdict(outcome)
    del body["id"]
    return body


def _outcome(clip: str, entry: dict[str, Any]) -> Outcome:
    return Lost(id=clip, **entry) if "outcome" in entry else ClipScore(id=clip, **entry)
