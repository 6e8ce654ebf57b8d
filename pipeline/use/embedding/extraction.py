"""Features of many videos: read by processes beside the encoder, kept as soon as they are there.

Shapes: C clips of a video, N tubes of a clip, D width of the encoder.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.configuration import stages
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.evaluation import rows
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.runtime.files import reserve
from pipeline.runtime.progress import Progress
from pipeline.runtime.provenance import provenance
from pipeline.runtime.store import Store
from pipeline.use.embedding import features_file
from pipeline.use.embedding.features_file import About, Features
from pipeline.use.embedding.reading import VideoClips, read_in_order
from pipeline.use.embedding.videos import VideoSource
from pipeline.weights.video_clips import ClipRequest, DecodedClips
from pipeline.weights.video_model import VideoModel

# Outcomes that another try may change.
TRANSIENT = {Outcome.MISSING, Outcome.FORBIDDEN, Outcome.TIMED_OUT, Outcome.FAILED}
# What features depend on beside checkpoint and settings.
CODE = ("pipeline.weights.video_clips", "pipeline.method.vit", "pipeline.weights.classifier")
LIMITS = {"time_limit_s", "memory_limit_mib"}  # of decoding
SEEN = ("frames", "size", "stride", "sampling")  # of a clip; the rest is for training


@dataclass(frozen=True)
class Extraction:
    """The features, and the videos that are lost."""

    features: Features
    lost: tuple[dict[str, str], ...]
    videos: int

    @property
    def lost_share(self) -> float:
        return len(self.lost) / self.videos


class Network(nn.Module):
    """Videos (b, 3, T, H, W) to features (b, D), or (b, N, D) of each tube."""

    def __init__(self, model: VideoModel, *, per_tube: bool) -> None:
        super().__init__()
        self.model, self.per_tube = model, per_tube

    def forward(self, videos: Tensor) -> Tensor:
        return self.model.tokens(videos) if self.per_tube else self.model.pooled(videos)


def extract(
    model: VideoModel,
    videos: Sequence[VideoSource],
    request: ClipRequest,
    output: Path,
    options: ExecutionOptions,
    *,
    per_tube: bool = False,
) -> Extraction:
    """Write the features of these videos to `output`; go on where an earlier call stopped.

    Videos that are in `output` already, made by the same checkpoint, settings and code, are taken
    over as they are. A video that cannot be used is left out, and listed.

    Raises:
        UserError: where the processes that read videos are killed.
    """
    grid = model.encoder.grid.count
    shape = (grid, model.encoder.width) if per_tube else (model.encoder.pooled_width,)
    about = About(_checkpoint(model), _settings(request, per_tube), shape)
    key = {"checkpoint": about.checkpoint["sha256"], "settings": about.settings}
    store = Store(output.with_name(f".{output.name}.partial"), key)
    scratch = store.folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed job has left there is nothing
    scratch.mkdir()
    with store.writing():
        if store.is_new:
            _take_over(output, about, store, request.clips)
        clips = VideoClips(videos, request, _known(videos, store), scratch)
        network = Network(model, per_tube=per_tube).to(options.device_of()).eval()
        _compute(network, clips, store, options, grid)
        features = _gathered(clips, about, store)
        features_file.write(output, features)
    store.remove()
    return Extraction(features, features.about.lost, len(videos))


def _checkpoint(model: VideoModel) -> dict[str, Any]:
    origin = model.origin
    return {"kind": origin.kind, "path": origin.path, "sha256": model.sha256}


def _settings(request: ClipRequest, per_tube: bool) -> dict[str, Any]:
    return {
        "clip": request.clip.model_dump(mode="json", include=set(SEEN)),
        "clips": request.clips,
        "per_tube": per_tube,
        "decode": request.decode.model_dump(mode="json", exclude=LIMITS),
        "code": stages.modules_sha256(*CODE),
    }


def _take_over(output: Path, about: About, store: Store, clips: int) -> None:
    """Take up the features of a finished file that depend on the same."""
    try:
        old = features_file.read(output)
    except UserError:
        return
    same = old.about.checkpoint["sha256"] == about.checkpoint["sha256"]
    if not same or old.about.settings != about.settings or len(old) % clips:
        return
    columns = old.columns
    for first in range(0, len(old), clips):
        part = slice(first, first + clips)
        store.add(
            columns["id"][first],
            old.values[part],
            outcome=Outcome.OK,
            sha256=columns["video_sha256"][first],
            spans=list(map(list, zip(columns["start"][part], columns["end"][part], strict=True))),
            segment=[columns["segment_start"][first], columns["segment_end"][first]],
            reason="",
        )


def _known(videos: Sequence[VideoSource], store: Store) -> dict[str, str]:
    """Return the digest of each video, by its id, that need not be embedded again."""
    known = {}
    for video in videos:
        entry = store.get(video.id)
        if entry.get("segment") == _segment(video) and entry["outcome"] not in TRANSIENT:
            known[video.id] = entry["sha256"]
    return known


def _compute(
    network: nn.Module, clips: VideoClips, store: Store, options: ExecutionOptions, tokens: int
) -> None:
    batches, videos = _Batches(network, store, options), clips.videos
    with (
        rows.inference(options.device_of(), tokens),
        Progress("embed", len(videos), "videos") as progress,
    ):
        for video, item in zip(videos, read_in_order(clips, options.workers), strict=True):
            if item.clips is not None:
                batches.add(video, item.sha256, item.clips)
                progress.advance(1, lost=batches.lost)
            else:
                batches.lost += store.get(video.id)["outcome"] != Outcome.OK
                progress.skip(1, lost=batches.lost)
        batches.finish()


@dataclass
class _Batches:
    """Videos whose clips are read, until there are enough of them for the encoder."""

    network: nn.Module
    store: Store
    options: ExecutionOptions
    videos: list[tuple[VideoSource, str, DecodedClips]] = field(default_factory=list)
    lost: int = 0

    def add(self, video: VideoSource, sha256: str, clips: DecodedClips) -> None:
        """Take a video; keep the reason where there is nothing to embed."""
        if clips.outcome is not Outcome.OK:
            self.lost += 1
            self._keep(video, sha256, clips, None)
            return
        self.videos.append((video, sha256, clips))
        if sum(len(clips.videos) for _, _, clips in self.videos) >= self.options.batch_size:
            self.finish()

    def finish(self) -> None:
        """Embed all that waits."""
        if not self.videos:
            return
        stacked = np.concatenate([clips.videos for _, _, clips in self.videos])
        features = rows.answers(
            self.network,
            torch.from_numpy(stacked).unsqueeze(1),
            self.options.batch_size,
            self.options.device_of(),
        )[:, 0]
        values: NDArray[np.float32] = features.cpu().numpy()
        done = 0
        for video, sha256, clips in self.videos:
            count = len(clips.videos)
            self._keep(video, sha256, clips, values[done : done + count])
            done += count
        self.videos.clear()

    def _keep(
        self,
        video: VideoSource,
        sha256: str,
        clips: DecodedClips,
        values: NDArray[np.float32] | None,
    ) -> None:
        record: dict[str, Any] = {
            "outcome": clips.outcome,
            "reason": clips.reason,
            "sha256": sha256,
        }
        if values is not None:
            record["spans"] = clips.spans.tolist()
        self.store.add(video.id, values, segment=_segment(video), **record)


def _segment(video: VideoSource) -> list[float | None]:
    return [video.segment.start, video.segment.end]


def _gathered(clips: VideoClips, about: About, store: Store) -> Features:
    """Put the rows in the order of the videos."""
    columns = features_file.empty_columns()
    lost, ids = [], []
    census: dict[str, int] = {}
    for video in clips.videos:
        entry = store.get(video.id)
        outcome = str(entry["outcome"])
        census[outcome] = census.get(outcome, 0) + 1
        if outcome != Outcome.OK:
            reason, sha256 = str(entry["reason"]), str(entry["sha256"])
            lost.append(
                {"id": video.id, "outcome": outcome, "reason": reason, "video_sha256": sha256}
            )
            continue
        ids.append(video.id)
        for number, (start, end) in enumerate(entry["spans"]):
            times = (start, end, *_segment(video))
            texts = (os.fspath(video.path), entry["sha256"], video.label, video.split)
            features_file.add_row(columns, (video.id, number, *times, *texts))
    shape = (len(columns["id"]), *about.shape)
    values = _mapped(store, ids, shape, clips.scratch / "ordered.bin")
    finished = About(
        about.checkpoint, about.settings, about.shape, census, tuple(lost), provenance()
    )
    return Features(finished, columns, values)


def _mapped(
    store: Store, ids: Sequence[str], shape: tuple[int, ...], path: Path
) -> NDArray[np.float32]:
    """Return all features in order; in a file that is mapped, for they may exceed memory."""
    if not ids:
        return np.empty(shape, np.float32)
    with path.open("wb") as file:
        reserve(file.fileno(), math.prod(shape) * np.dtype(np.float32).itemsize)
    values = np.memmap(path, np.float32, "r+", shape=shape)
    np.concatenate([store.values(name) for name in ids], out=values)
    return values
