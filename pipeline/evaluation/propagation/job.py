"""The videos of one data set: encoded one by one, their masks carried, scored, and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.evaluation.propagation import carry
from pipeline.evaluation.propagation.carry import Masks
from pipeline.evaluation.propagation.scores import MIN_FRAMES, VideoScore, score_objects
from pipeline.evaluation.propagation.settings import Propagation, View
from pipeline.evaluation.segmentation import pictures
from pipeline.evaluation.segmentation.masked_data import MaskedDataJob
from pipeline.evaluation.segmentation.metric import BACKGROUND
from pipeline.evaluation.segmentation.sources import (
    VOID,
    Lost,
    MaskedClip,
    read_in_order,
    scaled_masks,
)
from pipeline.runtime.devices import choose_device

Outcome = VideoScore | Lost


@dataclass(frozen=True, kw_only=True)
class PropagationJob(MaskedDataJob[VideoScore]):
    """One data set, for one run's encoder."""

    unit = "videos"

    settings: Propagation

    @property
    def grid(self) -> tuple[int, int]:
        """The tubes of a moment."""
        return self.encoder.grid.height, self.encoder.grid.width

    def outcomes(self, places: Sequence[int]) -> Iterator[Outcome]:
        for video in self._videos(places):
            yield video if isinstance(video, Lost) else self._scored(video)

    def restored(self, clip: str, kept: Mapping[str, Any]) -> VideoScore:
        return VideoScore.of(clip, kept)

    def _videos(self, places: Sequence[int]) -> Iterator[MaskedClip | Lost]:
        """Yield the videos at these places; Lost where there is nothing to carry or to score."""
        read = partial(self.source.video, size=self.encoder.grid.clip_shape[1])
        for video in read_in_order(read, places, self.workers):
            if isinstance(video, Lost):
                yield video
            elif len(video.masks) < MIN_FRAMES:
                yield Lost(video.id, "too_short", f"{len(video.masks)} frames with masks")
            elif not carry.objects(video.masks[0]):
                yield Lost(video.id, "no_object", "its first mask shows no object")
            else:
                yield video

    def _carried(self, video: MaskedClip) -> dict[View, Masks]:
        """Return the masks (T,H,W) that the first one becomes, in each view."""
        torch.set_num_threads(self.threads)
        device = choose_device()
        encoder = self.encoder.to(device).eval()
        return {
            view: carry.carried(
                carry.features(encoder, video.frames, view, device),
                video.masks[0],
                self.grid,
                self.settings,
            )
            for view in self.settings.views
        }

    def _scored(self, video: MaskedClip) -> VideoScore:
        numbers, masks = carry.objects(video.masks[0]), video.masks
        labels = [BACKGROUND, *numbers]
        at_best = np.stack(
            [
                carry.enlarged(carry.shares(m, labels, self.grid), labels, self.grid, m.shape)
                for m in masks
            ]
        )
        constant = np.broadcast_to(np.where(masks[0] == VOID, BACKGROUND, masks[0]), masks.shape)
        answers = self._carried(video)
        return VideoScore(
            video.id,
            numbers,
            {view: score_objects(masks, answer, numbers) for view, answer in answers.items()},
            [each.jf for each in score_objects(masks, constant, numbers)],
            [each.jf for each in score_objects(masks, at_best, numbers)],
        )

    def strips(self, ids: Sequence[str]) -> Iterator[tuple[str, pictures.Picture]]:
        side = self.encoder.grid.clip_shape[1]
        for video in self._videos([self.source.ids.index(clip) for clip in ids]):
            if not isinstance(video, Lost):
                layers = [np.where(video.masks == VOID, BACKGROUND, video.masks)]
                layers += self._carried(video).values()
                shown = [scaled_masks(layer, side).astype(np.int64) for layer in layers]
                yield video.id, pictures.layered(video.frames, shown)
