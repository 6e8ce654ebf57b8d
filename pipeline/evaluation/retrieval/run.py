"""R@k of one run's features: how often one of the k nearest train clips is of a test clip's class.

The protocol of Xu et al. 2019, "Self-Supervised Spatiotemporal Learning via Video Clip Order
Prediction", and of those after it: test clips are queries, train clips the gallery, and the cosine
of frozen features ranks. Nothing is fitted, and nothing is taken from the other queries.

Shapes: n queries, m clips of the gallery, V views, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.recognition import extracted
from pipeline.evaluation.recognition.task import Labelled, Task
from pipeline.evaluation.recognition.videos import limited_threads
from pipeline.runtime import similarity

DIGITS = 10  # of a cosine that count: below are the last bits of a sum


def score(job: Job) -> Outcome:
    """Return R@k of every label.

    Raises:
        UserError: where recognition has not extracted features of these weights.
    """
    params = job.params
    known, ks = extracted.read(job), params.benchmarks["retrieval"].k
    scores: list[dict[str, Any]] = []
    tasks, skipped = known.tasks(params.data.labels)
    with limited_threads(job):
        for label, asked in tasks.items():
            about = {"label": label, "split": asked.split}
            census = known.census(asked)
            scores += [{**about, **row, **census} for row in rows(asked, ks)]
    return known.outcome(scores, skipped, _sentence)


def rows(asked: Task, ks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield for each k its `recall`, and the `chance` of a gallery in random order."""
    places = first_hits(asked.test, asked.train, max(ks))
    for k in ks:
        by_chance = chance(asked.test.truth, asked.train.truth, k)
        yield {"k": k, "recall": float(np.mean(places < k)), "chance": by_chance}


def first_hits(queries: Labelled, gallery: Labelled, depth: int) -> NDArray[np.intp]:
    """Return at which place, from 0, each query's class comes first, (n,); `depth`: not before.

    Views are averaged. Train clips that are equally near come in the order of their ids.
    """
    order = np.argsort(gallery.ids, kind="stable")
    asked, known = (similarity.unit(clips.pooled) for clips in (queries, gallery))
    near, _ = similarity.nearest(asked, known[order], depth, DIGITS)
    hits = gallery.truth[order][near] == queries.truth[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), depth)


def chance(queries: NDArray[np.str_], gallery: NDArray[np.str_], k: int) -> float:
    """Return the expected R@k of classes (n,) in a gallery (m,) that comes in random order."""
    classes, counts = np.unique(gallery, return_counts=True)
    others = len(gallery) - counts  # clips that are of another class
    drawn = np.arange(min(k, len(gallery)))
    misses = np.maximum(others[:, None] - drawn, 0) / (len(gallery) - drawn)
    of_class = dict(zip(classes.tolist(), (1 - misses.prod(axis=1)).tolist(), strict=True))
    return float(np.mean([of_class.get(name, 0.0) for name in queries.tolist()]))


def _sentence(row: Mapping[str, Any]) -> str:
    return (
        f"{row['label']}: R@{row['k']} {100 * row['recall']:.1f} on {row['scored']:,} of "
        f"{row['of']:,} {row['split']} clips (chance {100 * row['chance']:.1f})"
    )
