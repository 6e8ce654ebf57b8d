"""`python -m pipeline evaluate --run NAME`: score one run's encoder with every configured probe."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Clip, Evaluation, Params
from pipeline.errors import UserError
from pipeline.evaluation import features, knn, linear, task
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.metrics import PLACES
from pipeline.evaluation.scores import Score, Skipped, details, left_out, score
from pipeline.files import read_json, sha256_file, write_json, write_text
from pipeline.models import hub
from pipeline.provenance import provenance
from pipeline.shards.format import ClipEntry
from pipeline.shards.index import DatasetIndex

Probe = Callable[[task.Task], task.Prediction]
Labels = Mapping[str, Mapping[str, str]]  # by clip, then by column
HEADER = ["label", "probe", "id", "true", *(f"predicted_{n}" for n in range(1, PLACES + 1))]


@dataclass
class Results:
    """What all probes of one run gave; `predictions` has a row per test clip and probe."""

    scores: list[Score] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[list[str]] = field(default_factory=list)


def run(params: Params, run: str) -> None:
    """Write `features.npz`, `predictions.csv` and, last of all, `evaluation.json` of a run.

    Raises:
        UserError: where the data set or the run is not there yet, or the weights are not those
            that `pretrain.json` tells of.
    """
    began = time.monotonic()
    data, layout = DataLayout(params.data.name), RunLayout(params.name, run)
    index = DatasetIndex.load(data.shards)
    inputs = {"index": sha256_file(data.index), "weights": _weights_sha256(layout)}
    entries = index.clips(sorted(index.splits))
    found = _features(params, layout, entries, inputs)
    labels = {entry.id: entry.labels for entry in entries}
    lost, threads = lost_clips(data, index), params.runs[run].trainer.threads
    with threadpool_limits(threads):  # NumPy would take all cores, also those of other jobs
        results = probe_all(params.data.labels, labels, found, lost, params.evaluation)
    _write_predictions(layout.predictions, results)
    write_json(
        layout.evaluated,
        {
            "run": run,
            "scores": [row.model_dump(mode="json") for row in results.scores],
            "skipped": [row.model_dump(mode="json") for row in results.skipped],
            "details": results.details,
            "census": index.census,
            "splits": index.splits,
            "inputs": inputs,
            "outputs": {
                "features": sha256_file(layout.features),
                "predictions": sha256_file(layout.predictions),
            },
            "settings": params.evaluation.model_dump(mode="json"),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    for line in _summary(results):
        print(f"[evaluate {run}] {line}")


def probe_all(
    columns: tuple[str, ...],
    labels: Labels,
    found: Mapping[str, SplitFeatures],
    lost: Mapping[str, str],
    settings: Evaluation,
) -> Results:
    """Run every probe on every label.

    Args:
        columns: labels to predict.
        labels: of every clip.
        found: features by split.
        lost: split of every lost clip, by id.
        settings: which probes, and how.
    """
    results = Results()
    lost_test = [clip for clip, split in lost.items() if split == "test"]
    for label in columns:
        asked = task.build(label, labels, found)
        for name, probe in _probes(settings).items():
            if isinstance(asked, str):
                results.skipped.append(Skipped(label=label, probe=name, reason=asked))
                continue
            answer = probe(asked)
            results.scores.append(score(asked, name, answer, lost_test))
            results.skipped += left_out(asked, name)
            if name == "linear":
                results.details.append(details(asked, name, answer))
            for clip, true, ranking in zip(
                asked.test.ids, asked.test.truth, answer.ranking, strict=True
            ):
                results.predictions.append([label, name, str(clip), str(true), *map(str, ranking)])
    return results


def lost_clips(data: DataLayout, index: DatasetIndex) -> dict[str, str]:
    """Return the split of every clip that the data set has lost, by id."""
    try:
        return {clip["id"]: clip["split"] for clip in index.lost}
    except KeyError:
        raise UserError(
            "the index does not say of which splits the lost clips were",
            place=str(data.index),
            remedy="python -m pipeline index",
        ) from None


def _probes(settings: Evaluation) -> dict[str, Probe]:
    probes: dict[str, Probe] = {}
    if settings.linear is not None:
        probes["linear"] = partial(linear.predict, settings=settings.linear)
    if settings.knn is not None:
        probes["knn"] = partial(knn.predict, settings=settings.knn)
    return probes


def _features(
    params: Params, layout: RunLayout, entries: list[ClipEntry], inputs: Mapping[str, str]
) -> dict[str, SplitFeatures]:
    trainer, evaluation = params.runs[layout.run].trainer, params.evaluation
    torch.set_num_threads(trainer.threads)
    _check_shape(params.data.clip, layout)
    return features.extract(
        hub.load(layout.weights),
        entries,
        params.data.clip,
        evaluation.views,
        path=layout.features,
        key={
            **inputs,
            "code": stages.code_sha256("evaluate"),
            "clip": params.data.clip.model_dump(mode="json"),
            "views": evaluation.views.model_dump(mode="json"),
            "pooling": "mean over tubes, then over views",
        },
        batch_size=evaluation.batch_size,
        workers=trainer.workers,
        label=f"evaluate {layout.run}",
    )


def _check_shape(clip: Clip, layout: RunLayout) -> None:
    """The clip may be sampled otherwise than in training, but must have as many pixels."""
    _, trained = hub.read_config(layout.weights)
    if (trained.frames, trained.size) != (clip.frames, clip.size):
        raise UserError(
            f"the model takes clips of {trained.frames} frames of {trained.size} x {trained.size}, "
            f"data.clip has {clip.frames} of {clip.size} x {clip.size}",
            place=str(layout.weights),
            remedy=f"python -m pipeline pretrain --run {layout.run}",
        )


def _weights_sha256(layout: RunLayout) -> str:
    """Hash the weights; they must be those that the pretrain stage wrote."""
    remedy = f"python -m pipeline pretrain --run {layout.run}"
    try:
        recorded = read_json(layout.pretrained)["model_sha256"]
        actual = sha256_file(layout.weights)
    except FileNotFoundError as error:
        problem = f"run {layout.run!r} has not been pretrained"
        raise UserError(problem, place=str(error.filename), remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        problem = f"this is not the manifest of a pretrained run: {error!r}"
        raise UserError(problem, place=str(layout.pretrained), remedy=remedy) from None
    if recorded != actual:
        raise UserError(
            f"the weights are not those that {layout.pretrained} tells of",
            place=str(layout.weights),
            remedy=remedy,
        )
    return actual


def _write_predictions(path: Path, results: Results) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(results.predictions)
    write_text(path, text.getvalue())


def _summary(results: Results) -> Iterator[str]:
    for row in results.scores:
        yield (
            f"{row.label}, {row.probe}: top-1 {row.top1:.1%}, top-5 {row.top5:.1%} on "
            f"{row.scored:,} of {row.of:,} test clips (chance {row.chance:.1%})"
        )
    for note in results.skipped:
        yield f"{note.label}, {note.probe}: {'note' if note.clips else 'skipped'}: {note.reason}"
