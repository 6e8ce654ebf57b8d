"""Read numbers from the tokens of one run's frozen encoder, each by an attentive probe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.configuration import stages
from pipeline.data.load.evaluation_clips import centred_view
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.metrics import missing, standard_error
from pipeline.evaluation.readouts.probe import Answer, Asked, Readout
from pipeline.evaluation.readouts.quantities import Quantity, of_columns, of_embedded
from pipeline.evaluation.readouts.settings import Readouts
from pipeline.evaluation.recognition import attentive, extracted, task
from pipeline.evaluation.recognition.extracted import Extracted, Skipped
from pipeline.evaluation.recognition.heads import HeadTrainer, Inputs
from pipeline.evaluation.recognition.videos import execution, limited_threads, shown_clips
from pipeline.method.pooling import Tokens
from pipeline.method.vit import Encoder
from pipeline.runtime.checkpoints import Resumption
from pipeline.weights import hub

LEAST = 2  # clips to learn from, at least


def score(job: Job) -> Outcome:
    """Return the mean error of every quantity.

    Raises:
        UserError: where recognition has not extracted features of these weights.
        ResumeLater: after SIGTERM or SIGUSR1, once what is done is kept.
    """
    settings: Readouts = job.params.benchmarks["readouts"]
    known = extracted.read(job)
    scores: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    with limited_threads(job):
        encoder = hub.load(job.layout.weights).encoder
        inputs = _tokens(job, known, encoder, settings)
        for quantity in _quantities(job, known, settings):
            asked = _asked(quantity, known)
            if isinstance(asked, str):
                skipped.append(extracted.skipped(quantity.name, asked))
                continue
            trainer = _trainer(job, known, encoder, settings, inputs, quantity)
            scores.append(_row(quantity, known, asked, Readout(quantity, trainer).ask(asked)))
    outcome = known.outcome(scores, skipped, _sentence)
    return replace(outcome, leftovers=(job.layout.work("readouts"),))


def _quantities(job: Job, known: Extracted, settings: Readouts) -> Iterator[Quantity]:
    if settings.embedded and job.params.data.synthetic is not None:
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
    """Return the tokens of all clips, as recognition's probes read them, in one view each."""
    view = centred_view(job.params.data.clip)
    return attentive.tokens(
        Tokens(encoder, job.params.evaluation.drop_tubes),
        {
            split: replace(clips, view_settings=view, cache=None)
            for split, clips in shown_clips(job, "read_out").items()
        },
        path=job.layout.work("readouts") / "tokens",
        key={"features": json.loads(known.key), "views": view.model_dump(mode="json")},
        options=execution(job.params, job.layout.run, "read_out"),
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
    return {
        "quantity": quantity.name,
        "split": known.split,
        "error": float(answer.errors.mean()),
        "standard_error": standard_error(answer.errors),
        "of_mean": float(np.mean(answer.of_mean)),
        **answer.chosen,
        "train_clips": len(asked.train),
        "scored": len(asked.test),
        "of": clips + len(lost),
        **missing(lost),
        "unlabelled_clips": clips - len(asked.test),
    }


def _sentence(row: Mapping[str, Any]) -> str:
    return (
        f"{row['quantity']}: mean error {row['error']:.4f} on {row['scored']:,} of "
        f"{row['of']:,} {row['split']} clips (of the mean: {row['of_mean']:.4f})"
    )
