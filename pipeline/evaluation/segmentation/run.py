"""Segment the clips of every data set with masks, one data set after the other, for one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.configuration import stages
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.benchmark import Job
from pipeline.evaluation.benchmark import Outcome as Result
from pipeline.evaluation.data_sets import Findings
from pipeline.evaluation.encoder import check_clip, for_frames
from pipeline.evaluation.segmentation import scores, sources
from pipeline.evaluation.segmentation.job import Outcome, SegmentationJob, key_of
from pipeline.evaluation.segmentation.sources import Source, open_source
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


def score(job: Job) -> Result:
    """Score, and draw, every data set at every length; write a row per clip and the pictures.

    Raises:
        UserError: where a data set is not there yet, a folder of masks is missing, or a clip length
            is no multiple of the model's tubes.
        ResumeLater: after SIGTERM or SIGUSR1; the clips that are scored are kept.
    """
    params, layout, settings = job.params, job.layout, job.params.segmentation
    findings = Findings(job, "segmentation")
    opened = findings.opened(settings.data, partial(open_source, params))
    for data, (source, lost, digest) in opened:
        findings.inputs[data.name] = digest
        for frames in settings.frames:
            part = _part(params, layout, source, frames, digest, job.weights)
            store = Store(findings.unfinished / f"{data.name}-{frames}", part.key)
            outcomes = [*lost, *part.score(store)]
            scored, missing = sources.divided(outcomes)
            about = {"data": data.name, "kind": data.kind, "frames": frames}
            findings.scores += scores.rows(about, scored, missing, settings)
            findings.rows += [_line(data.name, frames, each) for each in outcomes]
            findings.census[f"{data.name}, {frames} frames"] = sources.census(outcomes)
            if frames == settings.frames[0]:
                drawn = part.draw([each.id for each in scored], findings.folder(data.name))
                findings.add_pictures(data.name, drawn)
    return findings.outcome("clips", SCHEMA, _sentence)


def _part(
    params: Params, layout: RunLayout, source: Source, frames: int, data: str, weights: str
) -> SegmentationJob:
    encoder = hub.load(layout.weights).encoder
    clip, trainer = params.data.clip, params.runs[layout.run].trainer
    check_clip(layout, clip, any_length=True)
    return SegmentationJob(
        source=source,
        encoder=for_frames(encoder, frames),
        clip=clip,
        settings=params.segmentation,
        key=key_of(
            params.segmentation,
            name=source.name,
            data=data,
            weights=weights,
            frames=frames,
            clip=clip.model_dump(mode="json"),
            code=stages.code_sha256("segment"),
        ),
        label=f"segment {layout.run}: {source.name}, {frames} frames",
        drawn=params.segmentation.pictures,
        threads=trainer.threads,
        workers=trainer.workers,
    )


def _line(data: str, frames: int, outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"data": data, "frames": frames, "outcome": "ok", "reason": ""}
    return line | asdict(outcome)


def _sentence(row: Mapping[str, Any]) -> str:
    name = row["protocol"].replace("_", "-")
    what = f"{row['data']}, {row['frames']} frames, {name}"
    if row["miou"] is None or row["one_segment"] is None:
        return f"{what}: none of {row['of']:,} clips could be scored"
    error = "" if row["standard_error"] is None else f" ± {100 * row['standard_error']:.1f}"
    return (
        f"{what}: mIoU {100 * row['miou']:.1f}{error} on {row['scored']:,} of {row['of']:,} clips "
        f"(all one segment: {100 * row['one_segment']:.1f})"
    )
