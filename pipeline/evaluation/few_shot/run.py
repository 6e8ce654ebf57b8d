"""Top-1 with k labelled clips of each class, over many draws of these clips.

The classifier is that of Wang et al. 2019, "SimpleShot: Revisiting Nearest-Neighbor Classification
for Few-Shot Learning" (CL2N): features are centred on the mean of the train split, which needs no
label, and brought to length 1; a clip is of the class whose mean of labelled clips is the nearest.
It is linear, and has no setting to choose, for which so few labels would leave nothing to judge by.

Shapes: n clips, D width of the encoder, C classes, R draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.few_shot.settings import FewShot
from pipeline.evaluation.recognition import extracted
from pipeline.evaluation.recognition.task import Labelled, Task
from pipeline.evaluation.recognition.videos import limited_threads
from pipeline.runtime import similarity

DIGITS = 10  # of a distance that count: below are the last bits of a sum


def score(job: Job) -> Outcome:
    """Return the mean top-1 of every label and k, with its 95 % interval.

    Raises:
        UserError: where recognition has not extracted features of these weights.
    """
    params = job.params
    known, settings = extracted.read(job), params.benchmarks["few_shot"]
    scores: list[dict[str, Any]] = []
    tasks, skipped = known.tasks(params.data.labels)
    with limited_threads(job):
        for label, asked in tasks.items():
            census = known.census(asked)
            for k in settings.k:
                if reason := too_few(asked.train, k):
                    skipped.append(extracted.skipped(f"{label}, {k} labels a class", reason))
                    continue
                about = {"label": label, "split": asked.split, "k": k}
                scores.append({**about, **row(asked, k, settings), **census})
    return known.outcome(scores, skipped, _sentence)


def too_few(train: Labelled, k: int) -> str:
    """Name the classes that have fewer than k train clips; nothing where all have k."""
    names, counts = np.unique(train.truth, return_counts=True)
    few = [f"{n!r} has {c}" for n, c in zip(names.tolist(), counts.tolist(), strict=True) if c < k]
    more = f", and {len(few) - 5} more have fewer" * (len(few) > 5)
    return f"needs {k} train clips of each class: {', '.join(few[:5])}{more}" if few else ""


def row(asked: Task, k: int, settings: FewShot) -> dict[str, Any]:
    """Return the mean of top-1 over the draws, its 95 % interval, and each draw's."""
    train, test = centred(asked)
    shares = [
        float(np.mean(nearest_mean(train, test, asked, chosen) == asked.test.truth))
        for chosen in draws(asked.train, k, settings)
    ]
    return {
        "top1": float(np.mean(shares)),
        "interval": interval(shares),
        "chance": 1 / len(asked.classes),
        "classes": len(asked.classes),
        "draws": shares,
    }


def centred(asked: Task) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features of train and test (n, D): averaged over views, centred, of length 1."""
    train, test = asked.train.pooled, asked.test.pooled
    mean = train.mean(axis=0)
    return similarity.unit(train - mean), similarity.unit(test - mean)


def draws(train: Labelled, k: int, settings: FewShot) -> Iterator[NDArray[np.intp]]:
    """Yield for each draw the places of k train clips of each class, class by class: (C k,).

    They are those with the smallest hashes of the seed, the draw and their ids, so that what is
    drawn depends on nothing else: neither on the run nor on other clips.
    """
    names = np.unique(train.truth)
    for number in range(settings.draws):
        begin = hashlib.sha256(f"{settings.seed}:{number}:".encode())
        hashes = np.array([_digest(begin, str(clip)) for clip in train.ids])
        order = np.argsort(hashes, kind="stable")
        by_class = [order[train.truth[order] == name][:k] for name in names]
        yield np.concatenate(by_class)


def _digest(begin: Any, text: str) -> str:
    digest = begin.copy()
    digest.update(text.encode())
    return str(digest.hexdigest())


def nearest_mean(
    train: NDArray[np.float64], test: NDArray[np.float64], asked: Task, chosen: NDArray[np.intp]
) -> NDArray[np.str_]:
    """Return the class (n,) whose chosen train clips have the mean nearest to each test clip.

    Args:
        train: features (n, D) of the train clips.
        test: features (n, D) of the test clips.
        asked: what classes there are; of equally near ones the first by name is the answer.
        chosen: places of as many train clips of each class, class by class.
    """
    means = train[chosen].reshape(len(asked.classes), -1, train.shape[1]).mean(axis=1)
    distances = (means**2).sum(axis=1) - 2 * test @ means.T  # but for the test clip's own length
    answers: NDArray[np.str_] = asked.classes[distances.round(DIGITS).argmin(axis=1)]
    return answers


def interval(shares: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of at least two draws, by Student's t."""
    from scipy.stats import t  # takes a second, which the command line need not

    error = float(np.std(shares, ddof=1)) / math.sqrt(len(shares))
    half, mean = float(t.ppf(0.975, len(shares) - 1)) * error, float(np.mean(shares))
    return mean - half, mean + half


def _sentence(row: Mapping[str, Any]) -> str:
    low, high = (100 * bound for bound in row["interval"])
    return (
        f"{row['label']}, {row['k']} labels a class: top-1 {100 * row['top1']:.1f} "
        f"({low:.1f} to {high:.1f}, {len(row['draws'])} draws) on {row['scored']:,} of "
        f"{row['of']:,} {row['split']} clips (chance {100 * row['chance']:.1f})"
    )
