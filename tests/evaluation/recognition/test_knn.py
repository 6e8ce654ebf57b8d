"""k-NN against a vote counted clip by clip, and at its limits."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.configuration.schema import NearestNeighbours
from pipeline.evaluation import metrics
from pipeline.evaluation.recognition import knn
from pipeline.evaluation.recognition.task import Labelled, Task

from .problems import problem, shuffled


def vote(asked: Task, row: int, k: int, temperature: float) -> dict[str, float]:
    """Count the votes for one test clip by the definition, in plain Python."""
    query = asked.test.features[row, 0].astype(float)
    similar = []
    for values, name in zip(
        asked.train.features[:, 0].astype(float), asked.train.truth, strict=True
    ):
        cosine = math.fsum(query * values) / math.hypot(*query) / math.hypot(*values)
        similar.append((cosine, str(name)))
    votes: dict[str, float] = defaultdict(float)
    for cosine, name in sorted(similar, reverse=True)[:k]:
        votes[name] += math.exp(cosine / temperature)
    return votes


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 40), st.sampled_from([0.05, 0.07, 1.0]))
def test_votes_are_those_counted_by_hand(seed: int, k: int, temperature: float) -> None:
    """Catches another distance, weights of the wrong sign or scale, and unweighted votes."""
    asked = problem(1.0, seed=seed, classes=6, width=3, sizes={"train": 40, "test": 12})
    answer = knn.predict(asked, NearestNeighbours(k=(k,), temperature=temperature))
    for row, ranking in enumerate(answer.ranking):
        votes = vote(asked, row, k, temperature)
        best = sorted(votes, key=lambda name: -votes[name])[:5]
        assert [name for name in ranking if name] == best


def test_length_does_not_count() -> None:
    """Catches Euclidean neighbours, and a fit that notices the test clips' scale."""
    asked = problem(2.0)
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(asked.test.ids), 1)).astype(np.float32)
    test = Labelled(asked.test.ids, asked.test.features * scale[:, None], asked.test.truth)
    setting = NearestNeighbours(k=(10,), temperature=0.07)
    same = knn.predict(replace(asked, test=test), setting).ranking
    assert same.tolist() == knn.predict(asked, setting).ranking.tolist()


@pytest.mark.parametrize("temperature", [1e-6, 1e3])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    """Catches exp overflowing: a cold vote is the nearest's alone, a hot one is equal for all."""
    asked = problem(1.0, sizes={"train": 30, "test": 20})
    answer = knn.predict(asked, NearestNeighbours(k=(5,), temperature=temperature))
    if temperature < 1:
        nearest = knn.predict(asked, NearestNeighbours(k=(1,), temperature=1.0))
        assert answer.ranking[:, 0].tolist() == nearest.ranking[:, 0].tolist()
    assert (answer.ranking[:, 0] != "").all()


def test_fewer_clips_than_k() -> None:
    """Catches the crash of k neighbours asked of fewer clips; the k that was used is told."""
    asked = problem(1.0, sizes={"train": 8, "test": 4})
    answer = knn.predict(asked, NearestNeighbours(k=(20,), temperature=0.07))
    assert answer.chosen == {"k": 8, "temperature": 0.07}


def test_finds_a_planted_signal_and_no_other() -> None:
    """Catches a probe that is blind, and one that sees the answers."""
    asked, setting = problem(6.0), NearestNeighbours(k=(20,), temperature=0.07)
    assert metrics.top_k(knn.predict(asked, setting).ranking, asked.test.truth, 1) > 0.95
    blind = replace(asked, train=shuffled(asked.train, 3))
    top1 = metrics.top_k(knn.predict(blind, setting).ranking, asked.test.truth, 1)
    assert abs(top1 - 0.25) < 0.15  # 200 clips in four groups that move together
