"""k nearest neighbours on frozen features: neighbours vote with exp(cosine similarity / T).

The weighting is that of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (2018), section 3.4, as used for k-NN evaluation since. Nothing is fitted. Of
several k the best on `val` is the one of the table; the others' scores stand beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import NearestNeighbours
from pipeline.evaluation.metrics import Names, rank, top_k
from pipeline.evaluation.recognition.task import Labelled, Prediction, Task
from pipeline.runtime.similarity import vote_shares

Scores = NDArray[np.float32]


def predict(task: Task, settings: NearestNeighbours) -> Prediction:
    """Score the classes of the test clips by the votes of their nearest train clips.

    The features of a clip's views are averaged. Where train has fewer than k clips, all vote.
    """
    ks = sorted({min(k, len(task.train.ids)) for k in settings.k})
    best, notes = _choose(task, ks, settings.temperature)
    by_k = dict(zip(ks, votes(task.train, task.test, ks, settings.temperature), strict=True))
    chosen: dict[str, object] = {"k": best, "temperature": settings.temperature, **notes}
    classes = task.classes
    if len(ks) > 1:
        top1 = {k: top_k(rank(scores, classes), task.test.truth, 1) for k, scores in by_k.items()}
        chosen["top1_by_k"] = [[k, share] for k, share in top1.items()]
    beside = None
    if task.beside is not None:
        (beside,) = votes(task.train, task.beside, [best], settings.temperature)
    return Prediction(by_k[best], classes, chosen, beside)


def _choose(task: Task, ks: list[int], temperature: float) -> tuple[int, dict[str, object]]:
    """Return k and how it was found: the best top-1; of equals the smallest."""
    if len(ks) == 1:
        return ks[0], {}
    train, judge, by = task.selection
    if not len(judge.ids):
        return ks[0], {"chosen_on": "nothing"}
    classes: Names = np.unique(train.truth)
    shares = [
        top_k(rank(scores, classes), judge.truth, 1)
        for scores in votes(train, judge, ks, temperature)
    ]
    tried = [[k, share] for k, share in zip(ks, shares, strict=True)]
    return ks[int(np.argmax(shares))], {"chosen_on": by, "tried": tried}


def votes(train: Labelled, asked: Labelled, ks: list[int], temperature: float) -> list[Scores]:
    """Return for each k the logarithms (n, C) of the shares of votes; none is minus infinity."""
    from sklearn.neighbors import KNeighborsClassifier  # takes seconds, which other probes need not

    voters = KNeighborsClassifier(max(ks), algorithm="brute", metric="cosine")
    voters.fit(train.pooled, train.truth)
    most = min(max(ks), len(train.ids))
    distances, places = voters.kneighbors(asked.pooled, most)  # (n, k), the nearest first
    columns = np.searchsorted(voters.classes_, train.truth)[places]
    scores = []
    for k in ks:
        shares = vote_shares(columns[:, :k], -distances[:, :k], len(voters.classes_), temperature)
        with np.errstate(divide="ignore"):
            scores.append(np.log(shares).astype(np.float32))
    return scores
