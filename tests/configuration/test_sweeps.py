"""Sweeps: trials of one experiment, and the experiment of those that are chosen."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from pipeline.configuration import composition, sweeps
from pipeline.configuration.schema import Params, Sweep
from pipeline.errors import UserError

RATES = ("trainer.optimiser.base_lr=1e-4,5e-4", "trainer.seed=0,1")


def composed(*overrides: str) -> tuple[Params, dict[str, Any]]:
    text = sweeps.compose(["experiment=tiny", *overrides])
    return composition.parse(text, place="test"), yaml.safe_load(text)


@pytest.fixture(scope="module")
def sweep() -> tuple[Params, dict[str, Any]]:
    return composed("runs=[sigma_mlp]", *RATES, "benchmarks/retrieval=standard")


def test_trials_are_the_experiment_but_for_what_varies(
    sweep: tuple[Params, dict[str, Any]],
) -> None:
    """Catches a trial that differs in more than it should, and an untrained run made twice."""
    params, values = sweep
    runs = values["runs"]
    names = [f"sigma_mlp_base_lr-{rate}_s{seed}" for rate in ("0p0001", "0p0005") for seed in "01"]
    assert list(runs) == [*names, "random"]
    alone = yaml.safe_load(composition.compose(["experiment=tiny"]))["runs"]["sigma_mlp"]
    alone["trainer"]["optimiser"]["base_lr"], alone["trainer"]["seed"] = 5e-4, 1
    assert (
        params.runs[names[3]].model_dump()
        == composition.validate({**values, "runs": {names[3]: alone}, "sweep": None}, place="test")
        .runs[names[3]]
        .model_dump()
    )
    assert params.sweep is not None
    assert params.sweep.keys == {"base_lr": "trainer.optimiser.base_lr", "seed": "trainer.seed"}
    assert params.sweep.trials[names[3]].values == {"base_lr": 5e-4, "seed": 1}


def test_no_trial_looks_at_test(sweep: tuple[Params, dict[str, Any]]) -> None:
    """Catches a score on test that settings are then chosen by."""
    params, values = sweep
    assert not params.evaluation.test
    assert values["segmentation"]["runs"] == values["severe"]["runs"] == []
    assert values["benchmarks"]["retrieval"]["runs"] == []
    values = {**values, "evaluation": {**values["evaluation"], "test": True}}
    with pytest.raises(UserError, match="scored on val alone"):
        composition.validate(values, place="test")


def test_a_key_of_one_run_varies_that_run_alone() -> None:
    """Catches trials of a run that differ in nothing."""
    params, _ = composed("runs.sigma_mlp.objective.loss.epsilon=0.01,0.02")
    assert list(params.runs) == [
        "sigma_mlp_epsilon-0p01",
        "sigma_mlp_epsilon-0p02",
        "pixel",
        "random",
    ]
    assert params.sweep is not None
    assert list(params.sweep.trials) == [
        "sigma_mlp_epsilon-0p01",
        "sigma_mlp_epsilon-0p02",
        "pixel",
    ]


def test_choices_of_groups_vary() -> None:
    """Catches a group that is chosen for all runs, or for none."""
    params, _ = composed("runs=[sigma_mlp]", "objective/mask=tube,random")
    kinds = {name: run.objective.mask.kind for name, run in params.runs.items()}
    assert kinds == {
        "sigma_mlp_mask-tube": "tube",
        "sigma_mlp_mask-random": "random",
        "random": "tube",
    }


def test_what_trials_have_in_common_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a sweep that takes half a second more for each trial, or for each run."""
    asked, compose = [], composition._compose

    def counted(overrides: tuple[str, ...]) -> DictConfig:
        asked.append(overrides)
        return compose(overrides)

    monkeypatch.setattr(composition, "_compose", counted)
    params, _ = composed("runs=[sigma_mlp,pixel]", *RATES, "objective/mask=tube,random")
    assert params.sweep is not None
    assert len(params.sweep.trials) == 2 * 2 * 2 * 2
    # for all, then for each choice: the key of the group names the run, whose settings are its own
    assert len(asked) == len(set(asked)) == 1 + 2 * 2


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("data.clip.stride=1,2",), "setting of the whole experiment"),
        (("trainer.epochs=3",), "nothing varies"),
        (("trainer.seed=0,1", "runs=[other]"), "there is no run 'other'"),
        (("objective.loss.epsilon=0.01,0.02",), "there is no key 'epsilon'"),
        (("trainer.seed=1,1",), "two trials are called"),
    ],
)
def test_what_cannot_vary_is_refused(overrides: tuple[str, ...], problem: str) -> None:
    """Catches a sweep in which something else varies than was asked for."""
    with pytest.raises(UserError, match=problem):
        composed(*overrides)


def test_the_chosen_are_those_with_the_best_mean_over_seeds(
    sweep: tuple[Params, dict[str, Any]],
) -> None:
    """Catches the best single seed, a choice that is not the trained one, or no test score."""
    params, values = sweep
    trials: Sweep | None = params.sweep
    assert trials is not None
    scores = dict(zip(trials.trials, (0.9, 0.1, 0.6, 0.7), strict=True))
    (choice,) = sweeps.choose(trials, scores)
    assert (choice.values, choice.tried) == ({"base_lr": 5e-4}, 4)
    assert choice.mean == pytest.approx(0.65)
    runs = params.model_dump(mode="json")["runs"]
    text = sweeps.compose_chosen(params.name, trials, runs, [choice])
    chosen = composition.parse(text, place="test")
    assert (chosen.name, chosen.evaluation.test, chosen.sweep) == ("tiny_sweep_chosen", True, None)
    assert list(chosen.runs) == ["sigma_mlp_s0", "sigma_mlp_s1", "random"]
    assert chosen.runs["sigma_mlp_s1"] == params.runs[choice.trials[1]]
    assert list(chosen.severe.runs or ()) == list(chosen.runs)
    assert list(values["runs"])[2:4] == list(choice.trials)
