"""Read numbers from the tokens of one run's frozen encoder, each by an attentive probe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.metrics import NAMES_KEPT
from pipeline.evaluation.readouts.probe import Answer, Asked, Readout
from pipeline.evaluation.readouts.quantities import Quantity, of_columns, of_embedded
from pipeline.evaluation.readouts.settings import Readouts
from pipeline.evaluation.recognition import attentive, extracted, task
from pipeline.evaluation.recognition.extracted import Extracted, Skipped
from pipeline.evaluation.recognition.heads import HeadTrainer, Inputs
from pipeline.evaluation.recognition.videos import execution, shown_videos
from pipeline.evaluation.settings import ONE_VIEW
from pipeline.method.vit import Encoder
from pipeline.runtime.allocation import keep_freed_memory
from pipeline.runtime.checkpoints import Resumption
from pipeline.weights import hub

LEAST = 2  # clips to learn from, at least


def score(job: Job) -> Outcome:
    """Return the mean error of every quantity.

    Raises:
        UserError: where recognition has not extracted features of these weights.
        ResumeLater: after SIGTERM or SIGUSR1, once what is done is kept.
    """
    params, settings = job.params, job.params.benchmarks["readouts"]
    known = extracted.read(job)
    threads = params.runs[job.layout.run].trainer.threads
    torch.set_num_threads(threads)
    keep_freed_memory()
    scores: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    folder = job.layout.work("readouts")
    with threadpool_limits(threads):
        encoder = hub.load(job.layout.weights).encoder
        inputs = _tokens(job, known, encoder, settings)
        for quantity in _quantities(job, known, settings):
            asked = _asked(quantity, known)
            if isinstance(asked, str):
                skipped.append(extracted.skipped(quantity.name, asked))
                continue
            trainer = _trainer(job, known, encoder, settings, inputs, quantity)
            scores.append(_row(quantity, known, asked, Readout(quantity, trainer).ask(asked)))
    fields = {"scores": scores, "skipped": skipped}
    lines = (*_summary(scores), *extracted.skipped_lines(skipped))
    return Outcome(fields, known.inputs, summary=lines, leftovers=(folder,))


def _quantities(job: Job, known: Extracted, settings: Readouts) -> Iterator[Quantity]:
    if job.params.data.synthetic is not None:
        ids = [clip for part in known.features.values() for clip in part.ids]
        yield from of_embedded(ids, job.params.data.synthetic, job.params.data.clip)
    yield from of_columns(settings.columns, known.labels)


def _asked(quantity: Quantity, known: Extracted) -> Asked | str:
    """Return the clips whose number is known, by split; or why there is nothing to learn."""
    ids = {
        split: [clip for clip in part.ids if clip in quantity.truth]
        for split, part in known.features.items()
    }
    train, test = ids.get("train", []), ids.get(known.split, [])
    if len(train) < LEAST or not test:
        return f"too few clips of train, or none of {known.split}, have a number there"
    val = ids.get("val", [])
    return Asked(train, val, test)


def _tokens(job: Job, known: Extracted, encoder: Encoder, settings: Readouts) -> Inputs:
    """Return the tokens of all clips, in one view each."""
    params, run = job.params, job.layout.run
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    shown = shown_videos(params, run, index, "read_out").splits
    return attentive.tokens(
        encoder,
        {
            split: replace(clips, view_settings=ONE_VIEW, cache=None)
            for split, clips in shown.items()
        },
        path=job.layout.work("readouts") / "tokens",
        key={"features": json.loads(known.key), "views": ONE_VIEW.model_dump(mode="json")},
        options=execution(params, run, "read_out"),
        store_gib=settings.attentive.store_gib,
    )


def _trainer(
    job: Job,
    known: Extracted,
    encoder: Encoder,
    settings: Readouts,
    inputs: Inputs,
    quantity: Quantity,
) -> HeadTrainer:
    probe = settings.attentive

    def build(outputs: int) -> attentive.AttentiveHead:
        return attentive.AttentiveHead(encoder.width, outputs, probe.heads, probe.mlp_ratio)

    decided_by = {
        "features": json.loads(known.key),
        "inputs": dict(known.inputs),
        "settings": probe.model_dump(mode="json", exclude={"store_gib"}),
        "code": stages.code_sha256("read_out"),
    }
    folder = job.layout.work("readouts") / f"probe-{quantity.name}"
    label = f"read_out {job.layout.run}: {quantity.name}"
    return HeadTrainer(probe, build, inputs, Resumption(folder, decided_by, label))


def _row(quantity: Quantity, known: Extracted, asked: Asked, answer: Answer) -> dict[str, Any]:
    lost = task.missing(known.split, known.lost, known.features)
    clips = len(known.features[known.split].ids)
    spread = answer.errors.std(ddof=1) / len(asked.test) ** 0.5 if len(asked.test) > 1 else None
    return {
        "quantity": quantity.name,
        "split": known.split,
        "error": float(answer.errors.mean()),
        "standard_error": None if spread is None else float(spread),
        "of_mean": float(np.mean(answer.of_mean)),
        **answer.chosen,
        "train_clips": len(asked.train),
        "scored": len(asked.test),
        "of": clips + len(lost),
        "missing": sorted(lost)[:NAMES_KEPT],
        "missing_clips": len(lost),
        "unlabelled_clips": clips - len(asked.test),
    }


def _summary(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in scores:
        yield (
            f"{row['quantity']}: mean error {row['error']:.4f} on {row['scored']:,} of "
            f"{row['of']:,} {row['split']} clips (of the mean: {row['of_mean']:.4f})"
        )
