"""Score one run's encoder with every configured probe, on the data set's clips and on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import ImageSet, Params
from pipeline.data.shards.clip_table import ids_sha256, labels_of
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation import features
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.encoder import check_clip
from pipeline.evaluation.recognition import answers, baselines, cost, images
from pipeline.evaluation.recognition.extracted import lost_clips, scored_split
from pipeline.evaluation.recognition.probes import Results, Subject, probe_all, probes
from pipeline.evaluation.recognition.videos import execution, limited_threads, shown_videos
from pipeline.method.pooling import Pooled
from pipeline.method.vit import Encoder
from pipeline.runtime.devices import prepare_deterministic
from pipeline.runtime.files import remove_leftovers, sha256_file
from pipeline.weights import hub

FEATURES_CODE = ("pipeline.evaluation.features", "pipeline.weights.hub")  # what features depend on


def score(job: Job) -> Outcome:
    """Write a run's features and its predictions; return the scores of all probes.

    Raises:
        UserError: where the data set is not there yet, or the model takes other clips.
        ResumeLater: after SIGTERM or SIGUSR1, once what is done is kept.
    """
    params, layout = job.params, job.layout
    data = DataLayout(params.data.name)
    if params.evaluation.finetune is not None:
        prepare_deterministic(params.evaluation.finetune.deterministic)
    remove_leftovers(layout.probing)
    index = DatasetIndex.load(data.shards)
    inputs = {"index": sha256_file(data.index)}
    check_clip(layout, params.data.clip)
    with limited_threads(job):
        shown = {"clips": _shown(index), "weights": job.weights}
        encoder = hub.load(layout.weights).encoder
        results, baseline_rows = _recognition(params, layout, index, encoder, shown)
        network = Pooled(encoder, params.evaluation.drop_tubes)
        spent = cost.measure(network, execution(params, layout.run, "evaluate"))
    answers.write_best(layout.predictions, results)
    answers.write_all(layout.scores, results)
    return Outcome(
        {
            "scores": [row.model_dump(mode="json") for row in results.scores],
            "validation": [row.model_dump(mode="json") for row in results.validation],
            "baselines": baseline_rows,
            "skipped": [row.model_dump(mode="json") for row in results.skipped],
            "details": results.details,
            "cost": spent,
            "census": index.census,
            "splits": index.splits,
        },
        inputs,
        {"features": layout.features, "predictions": layout.predictions},
        tuple(_summary(results)),
    )


def _shown(index: DatasetIndex) -> dict[str, list[str]]:
    """Return hashes of what encoders are shown, by split: pictures and ids; no label, no name."""
    return {
        split: [index.pictures([split]).sha256, ids_sha256(index.clips([split]))]
        for split in sorted(index.splits)
    }


def _recognition(
    params: Params,
    layout: RunLayout,
    index: DatasetIndex,
    encoder: Encoder,
    inputs: Mapping[str, Any],
) -> tuple[Results, list[dict[str, Any]]]:
    """Benchmark I on the data set's own clips, with its baselines, then on each image data set."""
    data, settings = DataLayout(params.data.name), params.evaluation
    shown = shown_videos(params, layout.run, index, "evaluate")
    subject = _subject(params, layout, encoder, shown.splits, layout.features, inputs)
    subject = replace(subject, entries=shown.entries, caches=shown.caches)
    only = {"finetune": settings.finetune.labels} if settings.finetune else {}
    labels, lost, split = labels_of(shown.entries), lost_clips(data, index), scored_split(settings)
    results = probe_all(
        params.data.labels, labels, subject.features, lost, probes(settings, subject), only, split
    )
    rows = baselines.scores(params, subject, labels, lost, split) if settings.baselines else []
    for image_set in settings.images:
        results.extend(_on_images(params, layout, encoder, image_set, inputs["weights"]))
    return results, rows


def _on_images(
    params: Params, layout: RunLayout, encoder: Encoder, image_set: ImageSet, weights: str
) -> Results:
    """The probes on an image data set; its name stands where a label would."""
    settings = params.evaluation
    pictures_of = images.load(image_set)
    if not settings.test:
        del pictures_of["test"]
    splits: dict[str, Clips] = {
        split: images.ImageClips(pictures, params.data.clip, settings.on_failure)
        for split, pictures in pictures_of.items()
    }
    inputs = {"weights": weights, **{split: pictures_of[split].sha256 for split in pictures_of}}
    path = layout.features.with_name(f"features-{image_set.name}.npz")
    subject = _subject(params, layout, encoder, splits, path, inputs)
    labels = {
        name: {image_set.name: kind}
        for pictures in pictures_of.values()
        for name, kind in zip(pictures.ids, pictures.classes, strict=True)
    }
    asked, split = probes(settings, subject), scored_split(settings)
    return probe_all((image_set.name,), labels, subject.features, {}, asked, split=split)


def _subject(
    params: Params,
    layout: RunLayout,
    encoder: Encoder,
    splits: Mapping[str, Clips],
    path: Path,
    inputs: Mapping[str, Any],
) -> Subject:
    """Extract the features that all probes share, or read them."""
    evaluation, options = params.evaluation, execution(params, layout.run, "evaluate")
    key = {
        **inputs,
        "code": stages.modules_sha256(*FEATURES_CODE),
        "clip": params.data.clip.model_dump(mode="json"),
        "views": evaluation.views.model_dump(mode="json"),
        "train_views": evaluation.train_views.model_dump(mode="json"),
        "on_failure": evaluation.on_failure,
        "pooling": _pooling(evaluation.drop_tubes),
        "splits": sorted(splits),
    }
    network = Pooled(encoder, evaluation.drop_tubes)
    return Subject(
        weights=layout.weights,
        encoder=encoder,
        clip=params.data.clip,
        splits=splits,
        entries=(),
        features=features.extract(network, splits, path=path, key=key, options=options),
        key=key,
        folder=layout.probing / path.stem,
        options=options,
        drop_tubes=evaluation.drop_tubes,
    )


def _pooling(drop_tubes: float | None) -> str:
    """Say what features are the mean of, for the key that they are kept under."""
    if drop_tubes is None:
        return "mean over tubes"
    return f"mean over tubes, without the {drop_tubes:g} of them that change least"


def _summary(results: Results) -> Iterator[str]:
    for row in [*results.scores, *results.validation]:
        top5 = "" if row.top5 is None else f", top-5 {row.top5:.1%}"
        same = "" if row.constant is None else f"; the answer is {row.constant!r} for every clip"
        yield (
            f"{row.label}, {row.probe}: top-1 {row.top1:.1%}{top5} on {row.asked} (chance "
            f"{row.chance:.1%}, commonest class {row.majority:.1%}){same}"
        )
    for missing, scored, of in dict.fromkeys(
        (tuple(row.missing), row.scored, row.scored + row.missing_clips)
        for row in results.scores
        if row.missing
    ):
        yield f"scored {scored}/{of}, missing: {', '.join(missing)}"
    for note in results.skipped:
        yield f"{note.label}, {note.probe}: {'note' if note.clips else 'skipped'}: {note.reason}"
