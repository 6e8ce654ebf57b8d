"""Score one run's whole model by how much impossible videos surprise it.

The protocol of Garrido et al. 2025 ("Intuitive physics understanding emerges from self-supervised
pretraining on natural videos"), for whatever a run predicts: the first time steps of a window are
seen, the later ones predicted, and the objective's own loss between prediction and target is the
surprise. A video's is the mean over its windows in pairs, the maximum for single videos.

Shapes: V windows of a video, C contexts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.evaluation import rows
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.data_sets import Findings
from pipeline.evaluation.encoder import check_clip
from pipeline.evaluation.recognition.videos import execution
from pipeline.evaluation.segmentation import pictures as files
from pipeline.evaluation.surprise import pictures, predictor, scores
from pipeline.evaluation.surprise.predictor import PredictionError
from pipeline.evaluation.surprise.scores import Array
from pipeline.evaluation.surprise.settings import Surprise
from pipeline.evaluation.surprise.videos import UnreadableError, VideoSource, open_source
from pipeline.evaluation.surprise.windows import WindowedVideos
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.store import Store
from pipeline.weights import hub

SCHEMA = pa.schema(  # a row per video and context; one without for a video that cannot be read
    [
        *((name, pa.string()) for name in ("data", "property", "pair", "id")),
        ("possible", pa.bool_()),
        *((name, pa.string()) for name in ("outcome", "reason", "context")),
        ("mean", pa.float64()),
        ("max", pa.float64()),
        ("errors", pa.list_(pa.float64())),  # of each window
    ]
)


@dataclass(frozen=True)
class DataErrors:
    """A data set, the errors (V,C) of its videos by id, and why the others have none."""

    source: VideoSource
    errors: Mapping[str, Array]
    unreadable: Mapping[str, str]


def score(job: Job) -> Outcome:
    """Predict every window of every video; write a row per video, and draw some pairs.

    Raises:
        UserError: where a folder is missing, or weights of the run's target.
    """
    params, layout = job.params, job.layout
    settings: Surprise = params.benchmarks["surprise"]
    check_clip(layout, params.data.clip)
    run, clip = hub.read_config(layout.weights)
    steps = clip.frames // run.model.tube[0]
    findings = Findings(job, "surprise")
    names = [f"{seen} of {steps}" for seen in predictor.context_steps(settings.contexts, steps)]
    reason = predictor.reason_without(run, steps)
    network: PredictionError | None = None
    stride = settings.stride or params.data.clip.stride
    for data, source in findings.opened(
        settings.data, lambda data: reason or open_source(params, data, stride)
    ):
        findings.inputs[data.name] = source.digest
        network = network or _network(job, settings, steps)
        found = _errors(findings, settings, network, source)
        findings.scores += _rows(found, names)
        findings.rows += _lines(found, names)
        findings.census[data.name] = _census(found)
        findings.add_pictures(data.name, _drawn(findings.folder(data.name), settings, found))
    window = {"frames": clip.frames, "step": settings.step}
    return findings.outcome("videos", SCHEMA, _sentence, {"window": window})


def _network(job: Job, settings: Surprise, steps: int) -> PredictionError:
    run, _ = hub.read_config(job.layout.weights)
    model = predictor.whole_model(job.layout)
    contexts = predictor.context_steps(settings.contexts, steps)
    return PredictionError(model, run.objective.loss, contexts).eval()


def _errors(
    findings: Findings, settings: Surprise, network: PredictionError, source: VideoSource
) -> DataErrors:
    """Return the errors of a data set's videos; what an interrupted job kept is not done again."""
    job = findings.job
    key = {
        "data": source.digest,
        "weights": job.weights,
        "contexts": network.contexts,
        "step": settings.step,
        "code": stages.code_sha256("surprise"),
    }
    options = execution(job.params, job.layout.run, f"surprise {source.name}")
    grid = network.model.grid
    clips = WindowedVideos(source, grid.clip_shape[0], settings.step)
    keep_freed_memory()
    with threadpool_limits(options.threads):
        store = Store(findings.unfinished / source.name, key)
        done = rows.compute(network, clips, store, options, grid.count)
    errors = {clip: np.asarray(done.store.values(clip), np.float64) for clip in done.ids}
    by_id = {video.id: video for video in source.videos}
    unreadable = {}
    for clip in done.failed:
        try:
            source.read(by_id[clip])
            unreadable[clip] = "it could not be read, and can now: run again"
        except UnreadableError as error:
            unreadable[clip] = str(error)
    return DataErrors(source, errors, unreadable)


def _rows(found: DataErrors, contexts: Sequence[str]) -> Iterator[dict[str, Any]]:
    about = {"data": found.source.name}
    yield from scores.rows(about, found.source.videos, found.errors, contexts)


def _census(found: DataErrors) -> dict[str, int]:
    counts = {"ok": len(found.errors), "unreadable": len(found.unreadable)}
    return {outcome: count for outcome, count in counts.items() if count}


def _lines(found: DataErrors, contexts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for video in found.source.videos:
        about = {
            "data": found.source.name,
            "property": video.property,
            "pair": video.pair,
            "id": video.id,
            "possible": video.possible,
        }
        if video.id in found.unreadable:
            yield {**about, "outcome": "unreadable", "reason": found.unreadable[video.id]}
            continue
        for context, values in zip(contexts, found.errors[video.id].T, strict=True):
            yield {
                **about,
                "outcome": "ok",
                "reason": "",
                "context": context,
                "mean": float(values.mean()),
                "max": float(values.max()),
                "errors": values.tolist(),
            }


def _drawn(folder: Path, settings: Surprise, found: DataErrors) -> list[tuple[str, Path]]:
    """Draw some pairs; return their names and files."""
    pairs = scores.matched(found.source.videos, found.errors)
    by_name = {possible.video.pair: (possible, other) for possible, other in pairs}

    def strips() -> Iterator[tuple[str, files.Picture]]:
        for name in files.chosen(list(by_name), settings.pictures):
            pair = by_name[name]
            frames = [found.source.read(each.video) for each in pair]
            yield name, pictures.strip(frames, [each.at(None) for each in pair])

    return files.write(folder, strips())


def _sentence(row: Mapping[str, Any]) -> str | None:
    if row["context"] != scores.MEAN:
        return None
    what = f"{row['data']}, {row['property']}"
    if row["relative_accuracy"] is None:
        return f"{what}: no pair of {row['of']:,} videos could be read"
    return (
        f"{what}: the impossible video of {100 * row['relative_accuracy']:.1f} % of "
        f"{row['pairs']:,} pairs surprises more (± {100 * row['standard_error']:.1f}; chance "
        f"50), AUROC {100 * row['auroc']:.1f}"
    )
