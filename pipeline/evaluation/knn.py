"""k nearest neighbours on frozen features: neighbours vote with exp(cosine similarity / T).

The weighting is that of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (2018), section 3.4, as used for k-NN evaluation since. Nothing is fitted, so
nothing is chosen: k and T come from the configuration.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from pipeline.configuration.schema import NearestNeighbours
from pipeline.evaluation.metrics import rank
from pipeline.evaluation.task import Prediction, Task


def predict(task: Task, settings: NearestNeighbours) -> Prediction:
    """Rank the classes of the test clips by the votes of their nearest train clips.

    A class without a vote is not named; where train has fewer than k clips, all of them vote.
    """
    k = min(settings.k, len(task.train.ids))

    def weights(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn cosine distances (n, k) into votes; the nearest has 1, so none overflows."""
        nearest = distances.min(axis=1, keepdims=True)
        return np.asarray(np.exp(-(distances - nearest) / settings.temperature))

    voters = KNeighborsClassifier(k, weights=weights, algorithm="brute", metric="cosine")
    voters.fit(task.train.features.astype(np.float64), task.train.truth)
    votes = voters.predict_proba(task.test.features.astype(np.float64))  # (n, C)
    named = np.where(votes > 0, votes, -np.inf)
    ranking = rank(named, voters.classes_.astype(np.str_))
    return Prediction(ranking, {"k": k, "temperature": settings.temperature})
