"""The videos that an encoder is shown: each split in its views, and how fast."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params, Views
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation.benchmark import Job
from pipeline.evaluation.clips import VideoClips, caches
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.runtime.allocation import keep_freed_memory


@dataclass(frozen=True)
class ShownVideos:
    """The clips of all splits but those that are left alone, and where their views are kept."""

    entries: Sequence[ClipEntry]
    splits: Mapping[str, VideoClips]
    caches: Mapping[Views, ViewCache]


def shown_videos(params: Params, run: str, index: DatasetIndex, stage: str) -> ShownVideos:
    """Return what an encoder is shown of the data set; no test clip where these are left alone."""
    settings = params.evaluation
    left_alone = () if settings.test else ("test",)
    entries = index.clips(sorted(set(index.splits) - set(left_alone)))
    clips = {split: index.clips([split]) for split in index.splits if split not in left_alone}
    counts = {split: len(of_split) for split, of_split in clips.items()}
    views = {
        split: settings.train_views if split == "train" else settings.views for split in counts
    }
    kept = _caches(params, views, counts, f"{stage} {run}")
    splits = {
        split: VideoClips(
            clips[split],
            params.data.clip,
            views[split],
            settings.on_failure,
            params.runs[run].trainer.decoder,
            kept.get(views[split]),
        )
        for split in sorted(counts)
    }
    return ShownVideos(entries, splits, kept)


def shown_clips(job: Job, stage: str) -> Mapping[str, VideoClips]:
    """Return the clips that the encoder of a job is shown, by split."""
    index = DatasetIndex.load(DataLayout(job.params.data.name).shards)
    return shown_videos(job.params, job.layout.run, index, stage).splits


def execution(params: Params, run: str, stage: str) -> ExecutionOptions:
    """Return how a run's features are computed."""
    trainer, evaluation = params.runs[run].trainer, params.evaluation
    return ExecutionOptions(
        batch_size=evaluation.batch_size,
        workers=trainer.workers,
        processes=evaluation.processes,
        threads=trainer.threads,
        label=f"{stage} {run}",
        cache_mib=trainer.cache_mib,
    )


@contextlib.contextmanager
def limited_threads(job: Job) -> Iterator[None]:
    """Compute with the threads that the run may have, and keep the memory it frees, while open."""
    count = job.params.runs[job.layout.run].trainer.threads
    torch.set_num_threads(count)
    keep_freed_memory()
    with threadpool_limits(count):  # NumPy would take all cores
        yield


def _caches(
    params: Params, views: Mapping[str, Views], counts: Mapping[str, int], label: str
) -> dict[Views, ViewCache]:
    """Return where the views of the probes, and of fine-tuned encoders' scores, are kept."""
    clips: Counter[Views] = Counter()
    for split, kind in views.items():
        clips[kind] += counts[split]
    tested = params.evaluation.finetune
    if tested is not None and tested.views not in clips:
        clips[tested.views] = counts.get("test", 0) + counts.get("val", 0)
    root = DataLayout(params.data.name).views
    return caches(root, params.data.clip, clips, params.evaluation.views_gib, label)
