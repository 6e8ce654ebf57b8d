"""Carry the masks of every data set's videos by one run's features, and score them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.configuration import stages
from pipeline.evaluation.benchmark import Job
from pipeline.evaluation.benchmark import Outcome as Result
from pipeline.evaluation.data_sets import Findings
from pipeline.evaluation.encoder import check_clip
from pipeline.evaluation.propagation import scores
from pipeline.evaluation.propagation.job import Outcome, PropagationJob
from pipeline.evaluation.propagation.settings import Propagation
from pipeline.evaluation.segmentation import sources
from pipeline.evaluation.segmentation.sources import Lost, Source, open_source
from pipeline.runtime.store import Store
from pipeline.weights import hub

TEXTS = ("data", "view", "id", "outcome", "reason")
NUMBERS = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "first_mask", "limit")
SCHEMA = pa.schema(  # a row per object and view, and one per video that is not scored
    [
        *((name, pa.string()) for name in TEXTS),
        ("object", pa.int32()),
        *((name, pa.float64()) for name in NUMBERS),
    ]
)


def score(job: Job) -> Result:
    """Score, and draw, every data set; write a row per object and the pictures.

    Raises:
        UserError: where a data set is not there yet, or a folder of masks is missing.
        ResumeLater: after SIGTERM or SIGUSR1; the videos that are scored are kept.
    """
    params, layout = job.params, job.layout
    settings: Propagation = params.benchmarks["propagation"]
    check_clip(layout, params.data.clip, any_length=True)
    findings = Findings(job, "propagation")
    opened = findings.opened(settings.data, partial(open_source, params))
    for data, (source, lost, digest) in opened:
        findings.inputs[data.name] = digest
        part = _part(job, settings, source, digest)
        outcomes = [*lost, *part.score(Store(findings.unfinished / data.name, part.key))]
        scored, missing = sources.divided(outcomes)
        about = {"data": data.name, "kind": data.kind}
        findings.scores += [scores.row(about, view, scored, missing) for view in settings.views]
        findings.rows += [line for each in outcomes for line in _lines(data.name, each)]
        findings.census[data.name] = sources.census(outcomes)
        drawn = part.draw([each.id for each in scored], findings.folder(data.name))
        findings.add_pictures(data.name, drawn)
    return findings.outcome("objects", SCHEMA, _sentence)


def _part(job: Job, settings: Propagation, source: Source, data: str) -> PropagationJob:
    trainer = job.params.runs[job.layout.run].trainer
    key = {
        "data": data,
        "weights": job.weights,
        "settings": settings.model_dump(mode="json", exclude={"data", "pictures", "runs"}),
        "code": stages.code_sha256("propagate"),
    }
    return PropagationJob(
        source=source,
        encoder=hub.load(job.layout.weights).encoder,
        settings=settings,
        key=key,
        label=f"propagate {job.layout.run}: {source.name}",
        drawn=settings.pictures,
        threads=trainer.threads,
        workers=trainer.workers,
    )


def _lines(data: str, outcome: Outcome) -> Iterator[dict[str, Any]]:
    if isinstance(outcome, Lost):
        yield {"data": data, **asdict(outcome)}
        return
    about = {"data": data, "id": outcome.id, "outcome": "ok", "reason": ""}
    for view, each in outcome.views.items():
        columns = (outcome.objects, each, outcome.first_mask, outcome.limit)
        for number, found, first_mask, limit in zip(*columns, strict=True):
            baselines = {"first_mask": first_mask, "limit": limit}
            yield {**about, "view": view, "object": number, **asdict(found), **baselines}


def _sentence(row: Mapping[str, Any]) -> str:
    what = f"{row['data']}, {row['view']}"
    if row["jf"] is None:
        return f"{what}: none of {row['of']:,} videos could be scored"
    error = "" if row["standard_error"] is None else f" ± {100 * row['standard_error']:.1f}"
    return (
        f"{what}: J&F {100 * row['jf']:.1f}{error} (J {100 * row['j']:.1f}, F "
        f"{100 * row['f']:.1f}) on {row['objects']:,} objects of {row['scored']:,} of "
        f"{row['of']:,} videos (the first mask throughout: {100 * row['first_mask']:.1f}; "
        f"true labels of tubes: {100 * row['limit']:.1f})"
    )
