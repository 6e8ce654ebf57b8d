"""The linear probe: against another solver, its choice of C, and no way for test to leak in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.configuration.schema import LinearProbe
from pipeline.evaluation import metrics
from pipeline.evaluation.recognition import linear
from pipeline.evaluation.recognition.task import Labelled, Task, held_out

from .problems import problem, shuffled

SETTINGS = LinearProbe(inverse_regularisation=(0.001, 0.1, 10.0), max_iterations=500)


def one_c(c: float) -> LinearProbe:
    return LinearProbe(inverse_regularisation=(c,), max_iterations=2000)


def top1(asked: Task, settings: LinearProbe = SETTINGS) -> float:
    return metrics.top_k(linear.predict(asked, settings).ranking, asked.test.truth, 1)


def solved_by_torch(asked: Task, c: float) -> NDArray[np.str_]:
    """Minimise C x summed cross-entropy + |W|^2 / 2 on standardised features; rank test clips."""
    x, x_test = (
        torch.tensor(p.features[:, 0], dtype=torch.float64) for p in (asked.train, asked.test)
    )
    mean, deviation = x.mean(0), x.std(0, correction=0)
    y = torch.tensor(np.searchsorted(asked.classes, asked.train.truth))
    weight = torch.zeros(x.shape[1], len(asked.classes), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(asked.classes), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        logits = (x - mean) / deviation @ weight + bias
        value = c * functional.cross_entropy(logits, y, reduction="sum") + weight.square().sum() / 2
        value.backward()
        return value

    solver.step(loss)
    logits = ((x_test - mean) / deviation @ weight + bias).detach().numpy()
    return metrics.rank(logits, asked.classes)


@pytest.mark.parametrize("c", [0.01, 1.0])
@pytest.mark.parametrize("classes", [3, 7])
def test_another_solver_gives_the_same_ranking(c: float, classes: int) -> None:
    """Catches one-versus-rest instead of multinomial, features that are not standardised, C
    taken for its inverse, and a solver that stops early."""
    asked = problem(1.5, classes=classes, sizes={"train": 100, "test": 60})
    ours = linear.predict(asked, one_c(c)).ranking
    assert np.mean((ours == solved_by_torch(asked, c)).all(axis=1)) >= 0.98  # near ties may swap


def test_two_classes_are_ranked_too() -> None:
    """Catches the one-column scores that scikit-learn gives for two classes."""
    asked = problem(3.0, classes=2)
    ranking = linear.predict(asked, SETTINGS).ranking
    assert top1(asked) > 0.95
    assert {tuple(sorted(row[:2])) for row in ranking.tolist()} == {("class 0", "class 1")}
    assert set(ranking[:, 2:].ravel().tolist()) == {""}


def test_finds_a_planted_signal_and_no_other() -> None:
    """Catches a probe that is blind, and one that sees the answers."""
    asked = problem(4.0)
    assert top1(asked) > 0.95
    scores = []
    for seed in range(5):
        parts = {
            "train": shuffled(asked.train, seed),
            "val": shuffled(asked.val or asked.test, seed),
        }
        scores.append(top1(replace(asked, **parts)))
    assert abs(np.mean(scores) - 0.25) < 0.12


def test_permuting_test_labels_changes_nothing_but_the_score() -> None:
    """Catches C, or anything else, being chosen on test clips' labels."""
    asked = problem(1.0)
    blind = replace(asked, test=shuffled(asked.test, 1))
    first, second = linear.predict(asked, SETTINGS), linear.predict(blind, SETTINGS)
    assert first.chosen == second.chosen
    assert first.ranking.tolist() == second.ranking.tolist()


@pytest.mark.parametrize("with_val", [True, False])
def test_an_answer_does_not_depend_on_other_test_clips(with_val: bool) -> None:
    """Catches means and deviations taken from test clips: half of them are far away here."""
    asked = problem(1.0)
    asked = asked if with_val else replace(asked, val=None)
    features = asked.test.features.copy()
    features[100:] = 1000 * features[100:] + 500
    moved = replace(asked, test=Labelled(asked.test.ids, features, asked.test.truth))
    first, second = linear.predict(asked, SETTINGS), linear.predict(moved, SETTINGS)
    assert first.chosen == second.chosen
    assert first.ranking[:100].tolist() == second.ranking[:100].tolist()


def test_statistics_are_those_of_train_alone() -> None:
    """Catches a scaler that is fitted on val as well: val is far away here, and C is given."""
    asked = problem(1.0)
    assert asked.val is not None
    moved = Labelled(asked.val.ids, asked.val.features + 1000, asked.val.truth)
    first = linear.predict(asked, one_c(1.0)).ranking
    assert first.tolist() == linear.predict(replace(asked, val=moved), one_c(1.0)).ranking.tolist()


def test_chooses_the_best_on_val() -> None:
    """Catches C chosen on train, the worst taken for the best, and wrong scores in `tried`."""
    asked = problem(1.0, width=60, sizes={"train": 90, "val": 200, "test": 90})
    assert asked.val is not None
    chosen = linear.predict(asked, SETTINGS).chosen
    on_val = replace(asked, test=asked.val, val=None)
    expected = [[c, top1(on_val, one_c(c))] for c in SETTINGS.inverse_regularisation]
    assert chosen["tried"] == expected
    assert chosen["C"] == max(expected, key=lambda pair: pair[1])[0]
    assert chosen["chosen_on"] == "val"
    assert len({score for _, score in expected}) > 1, "the case tells nothing"


def test_without_val_a_part_of_train_chooses() -> None:
    """Catches test clips, or clips that the candidates have learned from, choosing C."""
    asked = replace(problem(1.0, width=60), val=None)
    held = held_out(asked.train)
    chosen = linear.predict(asked, SETTINGS).chosen
    assert chosen["chosen_on"] == "held-out train clips"
    assert chosen["chosen_on_clips"] == held.sum() == 60
    part = replace(asked, train=asked.train.take(~held), test=asked.train.take(held))
    assert chosen["tried"] == [[c, top1(part, one_c(c))] for c in SETTINGS.inverse_regularisation]


def test_held_out_clips_follow_their_ids() -> None:
    """Catches a draw that depends on the order of rows, or that empties a class."""
    train = problem(1.0, sizes={"train": 103, "test": 4}).train
    order = np.random.default_rng(0).permutation(len(train.ids))
    turned = Labelled(train.ids[order], train.features[order], train.truth[order])
    held = held_out(train)
    assert sorted(train.ids[held]) == sorted(turned.ids[held_out(turned)])
    single = Labelled(train.ids[:3], train.features[:3], np.array(["a", "a", "b"]))
    assert held_out(single).sum() == 1
    assert set(single.truth[~held_out(single)]) == {"a", "b"}


def test_nothing_to_choose_on() -> None:
    """Catches the crash where every class has a single train clip and there is no val."""
    asked = replace(problem(6.0, sizes={"train": 4, "test": 40}), val=None)
    answer = linear.predict(asked, SETTINGS)
    assert answer.chosen["chosen_on"] == "nothing"
    assert metrics.top_k(answer.ranking, asked.test.truth, 1) > 0.5


def test_same_input_same_answer() -> None:
    """Catches randomness in the solver or in the choice of C."""
    asked = problem(0.5)
    first, second = linear.predict(asked, SETTINGS), linear.predict(asked, SETTINGS)
    assert first.chosen == second.chosen
    assert first.ranking.tolist() == second.ranking.tolist()


def test_says_when_the_solver_did_not_converge() -> None:
    """Catches a probe cut short that is passed off as the optimum."""
    short = LinearProbe(inverse_regularisation=(10.0,), max_iterations=2)
    assert linear.predict(problem(1.0), short).chosen["converged"] is False
    assert linear.predict(problem(1.0), SETTINGS).chosen["converged"] is True
