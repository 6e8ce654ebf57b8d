"""The clips of one data set at one length: encoded one by one, clustered, scored, and drawn.

Shapes: t, h, w tubes of a clip along time and space, D width of a token.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration.schema import Clip, Segmentation
from pipeline.evaluation.segmentation import pictures, scores
from pipeline.evaluation.segmentation.masked_data import MaskedDataJob
from pipeline.evaluation.segmentation.scores import ClipScore
from pipeline.evaluation.segmentation.sources import Lost, MaskedClip, read_in_order
from pipeline.method.pixels import normalise
from pipeline.runtime.devices import choose_device, fast_fp32

Tokens = NDArray[np.float32]
Outcome = ClipScore | Lost
WAITING = 4  # clips per process that may wait to be clustered


@dataclass(frozen=True)
class Encoded:
    """A clip, and its tokens (t,h,w,D)."""

    clip: MaskedClip
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class SegmentationJob(MaskedDataJob[ClipScore]):
    """One data set at one clip length, which is the encoder's."""

    unit = "clips"

    clip: Clip
    settings: Segmentation

    @property
    def frames(self) -> int:
        """The length of a clip."""
        return self.encoder.grid.clip_shape[0]

    def outcomes(self, places: Sequence[int]) -> Iterator[Outcome]:
        processes, work = self.settings.processes, self._encoded(places)
        if processes == 1 or not places:
            yield from (_score(self.settings, each) for each in work)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, threadpool_limits, (1,)) as pool:
            call = partial(_score, self.settings)
            jobs = [pool.submit(call, each) for each in islice(work, WAITING * processes)]
            while jobs:
                yield jobs.pop(0).result()
                jobs += [pool.submit(call, each) for each in islice(work, 1)]

    def restored(self, clip: str, kept: Mapping[str, Any]) -> ClipScore:
        return ClipScore(id=clip, **kept)

    def strips(self, ids: Sequence[str]) -> Iterator[tuple[str, pictures.Picture]]:
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
