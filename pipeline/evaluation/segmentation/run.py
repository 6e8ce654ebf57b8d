"""Segment the clips of every data set with masks, one data set after the other, for one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.configuration import stages
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation import benchmark
from pipeline.evaluation.benchmark import Job
from pipeline.evaluation.encoder import check_clip, for_frames
from pipeline.evaluation.segmentation import scores, sources
from pipeline.evaluation.segmentation.job import Outcome, SegmentationJob, key_of
from pipeline.evaluation.segmentation.scores import ClipScore, Score
from pipeline.evaluation.segmentation.sources import Lost, Source, open_source
from pipeline.runtime.files import atomic_path
from pipeline.runtime.store import Store
from pipeline.weights import hub

SCHEMA = pa.schema(
    [
        ("data", pa.string()),
        ("frames", pa.int32()),
        ("id", pa.string()),
        ("outcome", pa.string()),  # ok, or why the clip is not scored
        ("reason", pa.string()),
        ("classes", pa.int32()),
        ("clustering", pa.float64()),
        ("over_clustering", pa.float64()),
        ("one_segment", pa.float64()),
    ]
)


def score(job: Job) -> benchmark.Outcome:
    """Score, and draw, every data set at every length; write a row per clip and the pictures.

    Raises:
        UserError: where a data set is not there yet, a folder of masks is missing, or a clip length
            is no multiple of the model's tubes.
        ResumeLater: after SIGTERM or SIGUSR1; the clips that are scored are kept.
    """
    params, layout, settings = job.params, job.layout, job.params.segmentation
    unfinished = layout.result("segmentation").with_suffix(".partial")
    rows: list[Score] = []
    clips: list[dict[str, Any]] = []
    pictures: list[dict[str, str]] = []
    skipped: list[dict[str, str]] = []
    census: dict[str, dict[str, int]] = {}
    inputs: dict[str, str] = {}
    layout.work("segmentation").mkdir(exist_ok=True)  # DVC expects it, also where none was drawn
    for data in settings.data:
        opened = open_source(params, data)
        if isinstance(opened, str):
            skipped.append({"data": data.name, "reason": opened})
            continue
        source, lost, inputs[data.name] = opened
        for frames in settings.frames:
            part = _part(params, layout, source, frames, inputs[data.name], job.weights)
            store = Store(unfinished / f"{data.name}-{frames}", part.key)
            outcomes = [*lost, *part.score(store)]
            scored = [each for each in outcomes if isinstance(each, ClipScore)]
            missing = [each for each in outcomes if isinstance(each, Lost)]
            rows += scores.rows(data.name, data.kind, frames, scored, missing, settings)
            clips += [_line(data.name, frames, each) for each in outcomes]
            census[f"{data.name}, {frames} frames"] = sources.census(outcomes)
            if frames == settings.frames[0]:
                folder = layout.work("segmentation") / data.name
                for clip, path in part.draw([each.id for each in scored], folder):
                    file = path.relative_to(layout.scores_folder).as_posix()
                    pictures.append({"data": data.name, "id": clip, "file": file})
    table = layout.rows("segmentation")
    with atomic_path(table) as temporary:
        pq.write_table(pa.Table.from_pylist(clips, SCHEMA), temporary)
    fields = {
        "scores": [row.model_dump(mode="json") for row in rows],
        "skipped": skipped,
        "census": census,
        "pictures": pictures,
    }
    summary = tuple(_summary(rows, skipped))
    return benchmark.Outcome(fields, inputs, {"clips": table}, summary, (unfinished,))


def _part(
    params: Params, layout: RunLayout, source: Source, frames: int, data: str, weights: str
) -> SegmentationJob:
    encoder = hub.load(layout.weights).encoder
    clip, trainer = params.data.clip, params.runs[layout.run].trainer
    check_clip(layout, clip, any_length=True)
    return SegmentationJob(
        source,
        for_frames(encoder, frames),
        clip,
        params.segmentation,
        key_of(
            params.segmentation,
            name=source.name,
            data=data,
            weights=weights,
            frames=frames,
            clip=clip.model_dump(mode="json"),
            code=stages.code_sha256("segment"),
        ),
        label=f"segment {layout.run}: {source.name}, {frames} frames",
        threads=trainer.threads,
        workers=trainer.workers,
    )


def _line(data: str, frames: int, outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"data": data, "frames": frames, "outcome": "ok", "reason": ""}
    if isinstance(outcome, ClipScore):
        return line | outcome.model_dump()
    return line | {"id": outcome.id, "outcome": outcome.outcome, "reason": outcome.reason}


def _summary(rows: Sequence[Score], skipped: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for row in rows:
        name = row.protocol.replace("_", "-")
        what = f"{row.data}, {row.frames} frames, {name}"
        if row.miou is None or row.one_segment is None:
            yield f"{what}: none of {row.of:,} clips could be scored"
            continue
        error = "" if row.standard_error is None else f" ± {100 * row.standard_error:.1f}"
        yield (
            f"{what}: mIoU {100 * row.miou:.1f}{error} on {row.scored:,} of {row.of:,} clips "
            f"(all one segment: {100 * row.one_segment:.1f})"
        )
    for note in skipped:
        yield f"{note['data']}: skipped: {note['reason']}"
