"""Heads on frozen features: a planted signal is found, shuffled labels give chance, no leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.configuration import composition
from pipeline.configuration.schema import FrozenHeads, Severe
from pipeline.evaluation.severe import frozen, scores
from pipeline.evaluation.severe.problem import Examples, Problem

from .test_problem import entry, task

TRAIN, TEST, WIDTH = 300, 200, 16
ANSWERS = ("class", "classes", "count")


@pytest.fixture(scope="module")
def heads() -> FrozenHeads:
    severe = Severe.model_validate(yaml.safe_load(composition.compose([]))["severe"])
    assert isinstance(severe.method, FrozenHeads)
    return severe.method


def planted(answer: str, *, shuffled: bool = False) -> tuple[Problem, np.ndarray, np.ndarray]:
    """A problem and its features (n, D): train, test. What is asked is a linear part of them."""
    rng = np.random.default_rng(3)
    total = TRAIN + TEST
    # Without clusters: of these a probe of shuffled labels gets whole ones right or wrong by luck.
    signal = rng.normal(size=(total, 4))
    truth: Any
    if answer == "class":
        truth, classes = signal.argmax(axis=1), tuple("abcd")
    elif answer == "classes":
        truth, classes = (signal > 0.5).astype(np.int64), tuple("abcd")
    else:
        truth, classes = np.maximum(1.0, np.rint(np.exp(1.5 + 0.6 * signal[:, 0]))), ()
    features = np.concatenate([signal, rng.normal(size=(total, WIDTH))], axis=1)
    features = features @ rng.normal(size=(features.shape[1],) * 2)
    if shuffled:
        truth = np.concatenate([rng.permutation(truth[:TRAIN]), truth[TRAIN:]])
    entries = [entry(f"clip-{k:04d}", "train" if k < TRAIN else "test") for k in range(total)]
    parts = [slice(TRAIN), slice(TRAIN, None)]
    train, test = (Examples(tuple(entries[part]), truth[part]) for part in parts)
    asked = Problem(task(answer), train, test, classes, (), 0, 0)
    return asked, features[:TRAIN].astype("f4"), features[TRAIN:].astype("f4")


@pytest.mark.parametrize("answer", ANSWERS)
def test_finds_a_planted_signal_and_nothing_in_shuffled_labels(
    answer: str, heads: FrozenHeads
) -> None:
    """Heads that learn nothing, or that know the test labels from elsewhere than train."""
    asked, train, test = planted(answer)
    row = scores.score(asked, "listed", frozen.answer(asked, train, test, heads))
    asked, train, test = planted(answer, shuffled=True)
    chance = scores.score(asked, "listed", frozen.answer(asked, train, test, heads))
    assert chance.constant == pytest.approx(row.constant, abs=1e-9)
    if answer == "count":
        assert row.value < 0.15 < 0.9 * row.constant < chance.value
    else:
        assert row.value > 0.75
        assert chance.value == pytest.approx(chance.constant, abs=0.15)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_depends_on_its_own_clip_and_train_alone(answer: str, heads: FrozenHeads) -> None:
    """Statistics taken from test clips, or hyperparameters chosen on them: the same clip among
    other test clips must get the same answer."""
    asked, train, test = planted(answer)
    whole = frozen.answer(asked, train, test, heads)
    few = Examples(asked.test.entries[:3], asked.test.truth[:3])
    other = Problem(asked.task, asked.train, few, asked.classes, (), 0, 0)
    alone = frozen.answer(other, train, np.concatenate([test[:1], 50 + test[1:3]]), heads)
    np.testing.assert_allclose(alone.values[0], whole.values[0], rtol=1e-6)
    assert alone.chosen == whole.chosen


def test_the_recorded_numbers_give_the_score_again(heads: FrozenHeads) -> None:
    """Scores that nobody can recompute from what is written of each test clip."""
    for answer in ANSWERS:
        asked, train, test = planted(answer)
        said = frozen.answer(asked, train, test, heads)
        row = scores.score(asked, "listed", said)
        lines = scores.lines(asked, said)
        numbers = np.array([line["scores"] for line in lines])
        names = [line["true"] for line in lines]
        if answer == "class":
            right = np.array(asked.classes)[numbers.argmax(1)] == names
            assert right.mean() == row.value
        elif answer == "classes":
            truth = [[int(c in name.split(";")) for c in asked.classes] for name in names]
            assert scores.metrics.average_precision(np.array(truth), numbers) == row.value
        else:
            counts = np.array(names, float)
            assert np.mean(np.abs(numbers[:, 0] - counts) / counts) == pytest.approx(row.value)
