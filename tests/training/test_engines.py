"""Every engine, on two processes, takes the steps that one process takes alone.

The processes are started by torchrun, and are real: they meet over gloo. One launch serves all
trials (tests/training/engine_runs.py), since DeepSpeed alone takes ten seconds to import.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from pipeline.configuration import composition
from pipeline.configuration.layout import RunLayout
from pipeline.runtime.ranks import Ranks
from pipeline.training import pretrain_stage

from .conftest import OVERRIDES, few
from .engine_runs import RUN, STEP, named, step_without_some, train

pytestmark = pytest.mark.system

# Ten steps. With seed 0 one tube lies within rounding between two prototypes, and the argmax that
# decides turns with the last bit of a sum, which changes gradients by 2 %.
TEN = (
    "trainer.seed=1",
    "trainer.epochs=7",
    "trainer.checkpoint_every=5",
    "trainer.keep_checkpoints=9",
)
# With four parts in all, drop path drops the same in each run.
PARTS = (
    *(*TEN, "++model.drop_path=0.2", "trainer.optimiser.clip_grad=0.5", "trainer.ema=0.9"),
    "trainer.probe_every=3",
)
DDP = ("trainer.engine=ddp", "trainer.devices=2")
ENGINES = {
    "ddp": DDP,
    "fsdp": ("trainer.engine=fsdp", "trainer.devices=2"),
    **{
        f"zero{stage}": ("trainer.engine=deepspeed", f"trainer.zero_stage={stage}", DDP[1])
        for stage in (1, 2, 3)
    },
}
# Clips have unequally many tubes in the loss.
DUAL = (*TEN, "objective/mask@runs.sigma_mlp.objective.mask=dual")
ALONE = {
    "whole": TEN,
    "dual": DUAL,
    "parts": (*PARTS, "trainer.accumulation=4"),
    "undropped": (*TEN, "trainer.accumulation=4"),
}
TOGETHER = {
    "halves": (*TEN, *DDP),
    "dual_halves": (*DUAL, *DDP),
    **{name: (*PARTS, *engine, "trainer.accumulation=2") for name, engine in ENGINES.items()},
}
RING = ["parts", *ENGINES]  # each goes on with what the one before it has saved
# An averaged target, masks whose counts vary, and schedules of everything.
JEPA = (
    *TEN,
    "objective@runs.sigma_mlp.objective=vjepa_demo",
    "++trainer.optimiser.final_weight_decay=0.4",
    "++trainer.optimiser.stretch=1.25",
)
ALONE["jepa"] = JEPA
TOGETHER |= {f"jepa_{name}": (*JEPA, *engine) for name, engine in ENGINES.items()}
JEPA_RING = ["jepa", *(f"jepa_{name}" for name in ENGINES)]
# A network that draws the visible tubes.
ADAPTIVE = (*TEN, "objective@runs.sigma_mlp.objective=adamae_demo")
ALONE["adaptive"] = ADAPTIVE
TOGETHER |= {f"adaptive_{name}": (*ADAPTIVE, *ENGINES[name]) for name in ("ddp", "fsdp", "zero3")}
# Three quarters of the samples are of a quarter of the clips.
MIXTURE = (*TEN, "trainer.mixture={column: source, weights: {few: 3, 7: 1}}")
ALONE["mixture"] = MIXTURE
TOGETHER["mixture_halves"] = (*MIXTURE, *DDP)
APART = {"nan": (*TEN, *DDP), "many_parts": (*TEN, *DDP, "trainer.accumulation=8")}


class Trials(NamedTuple):
    """What came out, and where."""

    folder: Path
    found: list[dict[str, Any]]  # by rank
    alone: dict[str, Any]  # a step on one process, and the clips of a mixture


@pytest.fixture(scope="module")
def trials(data_set: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Everything that the tests here look at, done once."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "data").symlink_to(data_set / "data")
    rings = (RING, JEPA_RING, ["mixture", "mixture_halves"])
    resumed = {f"{name}_resumed": TOGETHER[name] for ring in rings for name in ring[1:]}
    every = ALONE | TOGETHER | APART | resumed
    every |= {"back": ALONE["parts"], "mixture_back": ALONE["mixture"]}
    for name, overrides in every.items():
        (folder / f"{name}.yaml").write_text(composition.compose([*OVERRIDES, *overrides]))
    runs: list[tuple[str, str | None]] = [(name, None) for name in TOGETHER]
    for ring in rings:
        runs += [(f"{after}_resumed", before) for before, after in itertools.pairwise(ring)]
    (folder / "runs.json").write_text(json.dumps(runs))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ALONE:
            if name != "mixture":
                pretrain_stage.run(named(name), RUN)
        clips = {"clips of mixture": train("mixture", None, Ranks())}
        alone = clips | step_without_some("whole", [slice(0, 13)], Ranks())
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [
                *torchrun,
                "--nproc-per-node=2",
                str(Path(__file__).parent / "engine_runs.py"),
                folder,
            ],
            env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:]
        found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return Trials(folder, found, alone)


def losses(folder: Path) -> torch.Tensor:
    """What every step logged: its loss and the length of its gradient."""
    return torch.tensor([[line["loss"], line["grad_norm"]] for line in log(folder) if line["step"]])


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def are_equal(trials: Trials, name: str, expected: str) -> None:
    """Compare two runs: every loss and every weight, within 1e-5 of its size."""
    ours, theirs = (trials.folder / RunLayout(run, RUN).folder for run in (name, expected))
    assert losses(theirs).shape == (10, 2)
    torch.testing.assert_close(losses(ours), losses(theirs), rtol=1e-5, atol=0)
    weights, others = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    assert weights.keys() == others.keys()
    for key, value in others.items():
        assert (weights[key] - value).norm() <= 1e-5 * value.norm() + 1e-7, key


def test_a_batch_in_parts_is_a_batch(trials: Trials) -> None:
    """Catches a Sinkhorn that sees one part at a time, and means of unlike weight."""
    are_equal(trials, "undropped", "whole")


def test_two_processes_are_one(trials: Trials) -> None:
    """Catches gradients that are summed, clips that are taken twice, a Sinkhorn of halves."""
    are_equal(trials, "halves", "whole")
    are_equal(trials, "dual_halves", "dual")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero3"])
def test_two_processes_draw_the_same_tubes(trials: Trials, name: str) -> None:
    """Catches a sampling network whose gradients are left out, and draws of other numbers."""
    are_equal(trials, f"adaptive_{name}", "adaptive")


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_takes_the_same_steps(trials: Trials, name: str) -> None:
    """Catches an engine that clips, averages, decays or drops otherwise; in parts, with an average
    of the weights, which is what a run with one ends with."""
    are_equal(trials, name, "parts")


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_goes_on_from_the_checkpoint_of_another(trials: Trials, name: str) -> None:
    """Catches moments, steps or averages that are lost or mixed up on the way, and a number of
    processes that a checkpoint is bound to."""
    are_equal(trials, f"{name}_resumed", "parts")
    sessions = trials.folder / RunLayout(f"{name}_resumed", RUN).pretrained
    first, last = json.loads(sessions.read_text())["sessions"]
    assert (first["last_step"], last["first_step"]) == (STEP, STEP)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_scored_alike_while_it_trains(trials: Trials, name: str) -> None:
    """Catches a probe of one process's part of the weights, one of the weights that are no average,
    and processes that leave each other waiting; also after a resumption."""
    scores = {
        run: {
            line["step"]: line["rankme"]
            for line in log(trials.folder / RunLayout(run, RUN).folder)
            if "rankme" in line
        }
        for run in ("parts", name, f"{name}_resumed")
    }
    assert [*scores["parts"]] == [0, 3, 6, 9, 10]
    assert scores[name] == pytest.approx(scores["parts"], rel=1e-5)
    assert scores[f"{name}_resumed"] == pytest.approx(scores["parts"], rel=1e-5)


@pytest.mark.parametrize("name", JEPA_RING[1:])
def test_every_engine_averages_the_target_alike(trials: Trials, name: str) -> None:
    """Catches a target that follows the weights of before the step, or a part of them; masks that
    each process cuts by its own clips; and an average that a checkpoint of another engine loses."""
    are_equal(trials, name, "jepa")
    are_equal(trials, f"{name}_resumed", "jepa")


def test_one_process_goes_on_from_the_checkpoint_of_many(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a checkpoint of ZeRO 3 that only ZeRO 3 can read."""
    monkeypatch.chdir(trials.folder)
    train("back", "zero3", Ranks())
    are_equal(trials, "back", "parts")


def test_a_mixture_is_the_same_on_any_number_of_processes(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches shares that each process counts by itself, samples in another order, and a place in a
    component that a training on another number of processes takes up wrongly."""
    expected = trials.alone["clips of mixture"]
    assert [len(ids) for ids in expected] == [16] * 10
    names = sorted({name for ids in expected for name in ids})
    assert Counter(few(names.index(name)) for ids in expected for name in ids) == {
        "few": 120,
        "7": 40,
    }
    for name, begun in (("mixture_halves", 0), ("mixture_halves_resumed", STEP)):
        halves = [found[f"clips of {name}"] for found in trials.found]
        assert [first + second for first, second in zip(*halves, strict=True)] == expected[begun:]
        are_equal(trials, name, "mixture")
    monkeypatch.chdir(trials.folder)
    assert train("mixture_back", "mixture_halves", Ranks()) == expected[STEP:]
    are_equal(trials, "mixture_back", "mixture")


@pytest.mark.parametrize("name", ["ddp", "many_parts"])
def test_failed_clips_leave_the_mean_over_the_others(trials: Trials, name: str) -> None:
    """Catches clips of a short batch that count for more, and processes that wait for each other
    where one has fewer clips than parts."""
    first, second = (each[f"uneven {name}"] for each in trials.found)
    assert first["clips"] == second["clips"] == trials.alone["clips"] == 13
    for key in ("loss", "norm"):
        assert first[key] == second[key] == pytest.approx(trials.alone[key], rel=1e-5)
    assert first["length"] == pytest.approx(trials.alone["length"], rel=1e-6)


def test_what_one_process_meets_ends_all(trials: Trials) -> None:
    """Catches a process that goes on, or hangs, and an error that blames the wrong one."""
    first, second = trials.found
    assert "the loss is nan in step 1" in first["nan"]
    assert "rank 1 of 2, clips train-" in first["nan"]
    assert "there is no checkpoint yet" in first["nan"]
    assert second["nan"]
    for key, said in (("unreadable", "cannot be read"), ("full disk", "cannot be written")):
        assert said in first[key]
        assert first[key] == second[key]
    assert first["too many lost"][:3] == ["2", "lost by 0", "lost by 1"]
    assert "2 of 100 clips cannot be read" in first["too many lost"][3]
    assert first["too many lost"] == second["too many lost"]
    assert (first["reports"], second["reports"]) == (True, False)
