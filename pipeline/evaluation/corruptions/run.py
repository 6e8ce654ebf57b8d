"""Recognition of corrupted clips by one run's frozen features.

A linear probe learns each label of clean train clips, and is asked about test clips, clean and
corrupted: of every kind in five strengths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.configuration import stages
from pipeline.data.shards.clip_table import with_ids
from pipeline.evaluation import features
from pipeline.evaluation.altered import AlteredClips
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.corruptions.kinds import Corrupted
from pipeline.evaluation.corruptions.settings import STRENGTHS, Corruptions
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import extracted
from pipeline.evaluation.recognition.extracted import Extracted
from pipeline.evaluation.recognition.task import Task
from pipeline.evaluation.recognition.variants import some, top1_of
from pipeline.evaluation.recognition.videos import execution, limited_threads, shown_clips
from pipeline.method.pooling import Pooled
from pipeline.weights import hub

CLEAN, MEAN = "clean", "mean"  # in the place of a kind


def score(job: Job) -> Outcome:
    """Extract features of corrupted clips; return what the probe makes of them.

    Raises:
        UserError: where recognition has not extracted features of these weights.
    """
    params, settings = job.params, job.params.benchmarks["corruptions"]
    known = extracted.read(job)
    scores: list[dict[str, Any]] = []
    tasks, skipped = known.tasks(params.data.labels)
    with limited_threads(job):
        variants = _features(job, known, settings)
        for label, asked in tasks.items():
            chosen = some([*map(str, known.features[known.split].ids)], settings.clips)
            fewer = asked.test.take(np.isin(asked.test.ids, sorted(chosen)))
            if not len(fewer.ids):
                reason = f"none of the {len(chosen):,} chosen clips has this label"
                skipped.append(extracted.skipped(label, reason))
                continue
            about = {"label": label, "split": asked.split, "chance": 1 / len(asked.classes)}
            census = {**known.census(asked), "scored": len(fewer.ids)}
            found = rows(replace(asked, test=fewer), variants, settings)
            scores += [{**about, **row, **census} for row in found]
    file = job.layout.scores_folder / "corruptions.npz"
    return known.outcome(scores, skipped, _sentence, corruptions=file)


def _features(job: Job, known: Extracted, settings: Corruptions) -> dict[str, SplitFeatures]:
    """Return features of the chosen test clips in each kind and strength."""
    clean = shown_clips(job, "corrupt").get(known.split)
    if clean is None:
        return {}
    chosen = some([*map(str, known.features[known.split].ids)], settings.clips)
    clean = replace(clean, entries=with_ids(clean.entries, sorted(chosen)))
    key = {
        "clean": json.loads(known.key),
        "settings": settings.model_dump(mode="json", include={"kinds", "clips", "seed"}),
        "code": stages.modules_sha256("pipeline.evaluation.corruptions.kinds"),
    }
    corrupted = {
        variant(kind, strength): AlteredClips(clean, Corrupted(kind, strength, settings.seed))
        for kind in settings.kinds
        for strength in STRENGTHS
    }
    return features.extract(
        Pooled(hub.load(job.layout.weights).encoder, job.params.evaluation.drop_tubes),
        corrupted,
        path=job.layout.scores_folder / "corruptions.npz",
        key=key,
        options=execution(job.params, job.layout.run, "corrupt"),
    )


def variant(kind: str, strength: int) -> str:
    """Name the features of a kind at a strength."""
    return f"{kind}-{strength}"


def rows(
    asked: Task, variants: Mapping[str, SplitFeatures], settings: Corruptions
) -> Iterator[dict[str, Any]]:
    """Yield top-1 on clean clips, for each kind (the mean over strengths), and the mean over kinds.

    `drop` is what is lost of the clean top-1, as a share of it; `by_strength` the top-1 of each.
    """
    names = [variant(kind, strength) for kind in settings.kinds for strength in STRENGTHS]
    clean, *others = top1_of(asked, {name: variants[name] for name in names}, settings.linear)
    table = np.array(others).reshape(len(settings.kinds), len(STRENGTHS))
    yield {"kind": CLEAN, "top1": clean, "drop": 0.0, "by_strength": []}
    for kind, shares in (*zip(settings.kinds, table, strict=True), (MEAN, table.mean(axis=0))):
        mean = float(shares.mean())
        drop = (clean - mean) / clean if clean else None
        yield {"kind": kind, "top1": mean, "drop": drop, "by_strength": shares.tolist()}


def _sentence(row: Mapping[str, Any]) -> str:
    drop = "" if row["drop"] is None else f", {100 * row['drop']:.1f} % of it lost"
    return (
        f"{row['label']}, {row['kind']}: top-1 {100 * row['top1']:.1f}{drop} on "
        f"{row['scored']:,} of {row['of']:,} {row['split']} clips "
        f"(chance {100 * row['chance']:.1f})"
    )
