"""Recognition of clips out of order, and of their direction, by one run's frozen features.

A linear probe learns each label of train clips in order, and is asked about test clips in order,
reversed, shuffled, and still (the middle frame throughout): what it loses is what the features know
of time. Another one learns whether a clip runs forward or backward (Wei et al. 2018, "Learning and
Using the Arrow of Time").

Shapes: n clips, V views, D width of the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.configuration import stages
from pipeline.configuration.schema import LinearProbe
from pipeline.data.shards.clip_table import with_ids
from pipeline.evaluation import features
from pipeline.evaluation.altered import ORDERS, AlteredClips, Reordered
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.metrics import missing, top_k
from pipeline.evaluation.order.settings import Order
from pipeline.evaluation.recognition import extracted, linear, task
from pipeline.evaluation.recognition.extracted import Extracted
from pipeline.evaluation.recognition.task import Labelled, Task
from pipeline.evaluation.recognition.variants import joined, some, top1_of
from pipeline.evaluation.recognition.videos import execution, limited_threads, shown_clips
from pipeline.method.pooling import Pooled
from pipeline.weights import hub

IN_ORDER = "in_order"
DIRECTION = "direction"  # in the place of a label
BACKWARD = "train_reversed"  # some train clips; the other features are of the scored split


def score(job: Job) -> Outcome:
    """Extract features of clips out of order; return what the probes make of them.

    Raises:
        UserError: where recognition has not extracted features of these weights.
    """
    params, settings = job.params, job.params.benchmarks["order"]
    known = extracted.read(job)
    scores: list[dict[str, Any]] = []
    tasks, skipped = known.tasks(params.data.labels)
    with limited_threads(job):
        altered = _features(job, known, settings)
        for label, asked in tasks.items():
            about = {"label": label, "split": asked.split, "chance": 1 / len(asked.classes)}
            shares = top1_of(asked, {order: altered[order] for order in ORDERS}, settings.linear)
            scores += [
                {**about, "frames": order, "top1": share, **known.census(asked)}
                for order, share in zip((IN_ORDER, *ORDERS), shares, strict=True)
            ]
        both_ways = direction(known, altered)
        if isinstance(both_ways, str):
            skipped.append(extracted.skipped(DIRECTION, both_ways))
        else:
            scores.append(_direction_row(known, both_ways, settings.linear))
    file = job.layout.scores_folder / "order.npz"
    return known.outcome(scores, skipped, _sentence, order=file)


def _features(job: Job, known: Extracted, settings: Order) -> dict[str, SplitFeatures]:
    """Return features of the scored split in each order, and of some train clips backward."""
    videos = shown_clips(job, "order")
    asked: dict[str, Clips] = {
        order: AlteredClips(videos[known.split], Reordered(order, settings.seed))
        for order in ORDERS
        if known.split in videos
    }
    if "train" in videos:
        train = videos["train"]
        chosen = some(train.ids, settings.direction_clips)
        some_train = replace(train, entries=with_ids(train.entries, sorted(chosen)))
        asked[BACKWARD] = AlteredClips(some_train, Reordered("reversed", settings.seed))
    key = {
        "in_order": json.loads(known.key),
        "seed": settings.seed,
        "direction_clips": settings.direction_clips,
        "code": stages.modules_sha256("pipeline.evaluation.altered"),
    }
    return features.extract(
        Pooled(hub.load(job.layout.weights).encoder, job.params.evaluation.drop_tubes),
        asked,
        path=job.layout.scores_folder / "order.npz",
        key=key,
        options=execution(job.params, job.layout.run, "order"),
    )


def direction(known: Extracted, altered: Mapping[str, SplitFeatures]) -> Task | str:
    """Return the task of telling forward from backward, or the reason why there is none.

    Each clip is there both ways; both are held out where one is, since that goes by ids.
    """
    if BACKWARD not in altered or "reversed" not in altered:
        return f"there are no clips of train, or none of {known.split}"
    train = _both_ways(known.features["train"], altered[BACKWARD])
    test = _both_ways(known.features[known.split], altered["reversed"])
    if not len(train.ids) or not len(test.ids):
        return f"no clip of train, or none of {known.split}, could be read"
    return Task(DIRECTION, train, None, test, {}, known.split)


def _both_ways(forward: SplitFeatures, backward: SplitFeatures) -> Labelled:
    """Label features forward and backward of the clips that are there in both ways."""
    place_of = {clip: place for place, clip in enumerate(forward.ids)}
    kept = [place for place, clip in enumerate(backward.ids) if clip in place_of]
    ids = [backward.ids[place] for place in kept]
    ways = {
        "forward": forward.values[[place_of[clip] for clip in ids]],
        "backward": backward.values[kept],
    }
    names = np.array(ids, np.str_)
    parts = [Labelled(names, values, np.full(len(ids), way)) for way, values in ways.items()]
    return joined(parts)


def _direction_row(known: Extracted, asked: Task, settings: LinearProbe) -> dict[str, Any]:
    answer = linear.predict(asked, settings)
    lost = task.missing(known.split, known.lost, known.features)
    clips = len(asked.test.ids) // 2
    return {
        "label": DIRECTION,
        "split": known.split,
        "frames": "both_ways",
        "top1": top_k(answer.ranking, asked.test.truth, 1),
        "chance": 0.5,
        "train_clips": len(asked.train.ids) // 2,
        "scored": clips,
        "of": clips + len(lost),
        **missing(lost),
        "unlabelled_clips": 0,
    }


def _sentence(row: Mapping[str, Any]) -> str:
    return (
        f"{row['label']}, {row['frames'].replace('_', ' ')}: top-1 {100 * row['top1']:.1f} on "
        f"{row['scored']:,} of {row['of']:,} {row['split']} clips "
        f"(chance {100 * row['chance']:.1f})"
    )
