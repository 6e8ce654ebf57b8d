"""Few-shot recognition: against class means taken one by one, at its limits, and as a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from pipeline.evaluation import features
from pipeline.evaluation.few_shot import run
from pipeline.evaluation.few_shot.settings import FewShot
from pipeline.evaluation.few_shot.table import table
from pipeline.evaluation.recognition.task import Task
from pipeline.evaluation.registry import BENCHMARKS

from ..conftest import RUN, SIZES
from ..recognition.problems import problem, shuffled

DRAWN = FewShot(k=(1, 5, 10), draws=20, seed=0)


def answer_one_by_one(asked: Task, places: list[int], query: int) -> str:
    """Classify one test clip by the definition, with float64 and plain loops."""
    train = asked.train.features.astype(float).mean(axis=1)
    mean = train.mean(axis=0)

    def unit(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        moved = values.astype(float) - mean
        return moved / np.linalg.norm(moved)

    known: dict[str, list[np.ndarray[Any, Any]]] = {}
    for place in places:
        known.setdefault(str(asked.train.truth[place]), []).append(unit(train[place]))
    seen = unit(asked.test.features[query].astype(float).mean(axis=0))
    distances = {name: np.linalg.norm(seen - np.mean(rows, axis=0)) for name, rows in known.items()}
    return min(sorted(distances), key=distances.__getitem__)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0, 4))
def test_answers_are_those_of_means_taken_one_by_one(seed: int, k: int, signal: float) -> None:
    """Catches features that are not centred or not of length 1, a centre that test clips move, and
    means of other classes' clips."""
    asked = problem(signal, seed=seed, width=5, sizes={"train": 40, "test": 12})
    train, test = run.centred(asked)
    for chosen in run.draws(asked.train, k, replace_draws(2)):
        answers = run.nearest_mean(train, test, asked, chosen)
        expected = [answer_one_by_one(asked, chosen.tolist(), query) for query in range(12)]
        assert answers.tolist() == expected


def replace_draws(count: int) -> FewShot:
    return DRAWN.model_copy(update={"draws": count})


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.randoms())
def test_draws_depend_on_seed_and_ids_alone(seed: int, k: int, random: Any) -> None:
    """Catches draws that the order of the clips, a lost clip or the features change, and a class
    that has more clips than another."""
    asked = problem(1.0, seed=seed, sizes={"train": 60, "test": 4})
    train, some = asked.train, DRAWN.model_copy(update={"seed": seed, "draws": 3})
    drawn = [set(train.ids[places].tolist()) for places in run.draws(train, k, some)]
    for places in run.draws(train, k, some):
        assert train.truth[places].tolist() == np.repeat(asked.classes, k).tolist()
        assert len(set(places.tolist())) == k * len(asked.classes)
    order = list(range(60))
    random.shuffle(order)
    mixed = replace(
        train, ids=train.ids[order], truth=train.truth[order], features=train.features[order] * 0
    )
    assert [set(mixed.ids[places].tolist()) for places in run.draws(mixed, k, some)] == drawn
    lost = next(place for place, clip in enumerate(train.ids) if clip not in set.union(*drawn))
    rest = train.take(np.arange(60) != lost)
    assert [set(rest.ids[places].tolist()) for places in run.draws(rest, k, some)] == drawn
    other = [
        set(train.ids[p].tolist())
        for p in run.draws(train, k, some.model_copy(update={"seed": -1}))
    ]
    assert other != drawn


def test_a_planted_signal_is_found_and_shuffled_labels_give_chance() -> None:
    """Catches test clips compared with other clips' labels; more labels tell more."""
    strong = run.row(problem(9.0), 1, DRAWN)
    assert strong["top1"] > 0.95
    weak = problem(2.5)
    means = [run.row(weak, k, DRAWN)["top1"] for k in DRAWN.k]
    assert means == sorted(means)
    assert means[0] < means[-1] - 0.1
    chances = [
        run.row(replace(weak, train=shuffled(weak.train, seed)), 5, DRAWN)["top1"]
        for seed in range(10)
    ]
    assert np.mean(chances) == pytest.approx(0.25, abs=0.03)


def test_the_interval_is_that_of_a_mean() -> None:
    """Catches an interval of single draws, or a normal one (oracle: the bootstrap, and a table)."""
    shares = np.random.default_rng(0).normal(0.5, 0.1, 20).tolist()
    low, high = run.interval(shares)
    theirs = bootstrap((shares,), np.mean, confidence_level=0.95, rng=0).confidence_interval
    assert (low, high) == pytest.approx(tuple(theirs), abs=0.015)
    half = 2.093 * np.std(shares, ddof=1) / 20**0.5  # Student's t of 19 degrees, 97.5 %
    assert high - np.mean(shares) == pytest.approx(half, rel=1e-4)
    assert run.interval([0.5, 0.5]) == (0.5, 0.5)


def test_test_clips_know_of_no_other() -> None:
    """Catches a statistic of the test split."""
    asked = problem(1.0)
    few = np.arange(len(asked.test.ids)) % 7 == 0
    alone = replace(asked, test=asked.test.take(few))
    chosen = next(run.draws(asked.train, 5, DRAWN))
    answers = [run.nearest_mean(*run.centred(each), each, chosen) for each in (asked, alone)]
    assert (answers[0][few] == answers[1]).all()


@pytest.fixture
def learn(recognised: None, score: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Score the run by features that recognition has written."""
    plain = {"k": [1, 8], "draws": 5, "seed": 0}
    return lambda **settings: score("few_shot", **{**plain, **settings})


def test_features_are_those_of_recognition(
    learn: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches clips that are decoded or encoded a second time, a class with too few clips that is
    left out without a word, and an interval that the table loses."""
    monkeypatch.setattr(features, "extract", None)
    body = learn(k=[9, 8, 1])
    assert [(row["label"], row["k"]) for row in body["scores"]] == [("colour", 1), ("colour", 8)]
    (note,) = body["skipped"]
    assert note["label"] == "colour, 9 labels a class"
    assert (
        note["reason"]
        == "needs 9 train clips of each class: 'blue' has 8, 'green' has 8, 'red' has 8"
    )
    row = body["scores"][-1]
    assert row["top1"] > 0.8
    assert (row["scored"], row["of"], row["missing"]) == (
        SIZES["test"] - 1, SIZES["test"] + 1, ["lost-test"],
    )  # fmt: skip
    assert row["draws"] == [row["top1"]] * 5  # all clips of each class in every draw
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    cell, _ = shown.cells(shown.runs[0])
    low, high = body["scores"][0]["interval"]
    assert cell.notes == (
        (f"{100 * low:.1f}–{100 * high:.1f}", "95 % interval of the mean over 5 draws"),
    )
    assert [cell.text for cell in shown.cells(shown.runs[1])] == ["–", "–"]
    assert next(BENCHMARKS["few_shot"].metrics(body))[1] == "colour_k1"
