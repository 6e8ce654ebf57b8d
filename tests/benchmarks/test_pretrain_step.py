"""The benchmark of a training step: the same work as those that it is compared with."""

from __future__ import annotations

import json
import time

import pytest
import torch

from benchmarks import pretrain_step
from benchmarks.stopwatch import Stopwatch

SMALL = ["--model", "demo", "--size", "32", "--frames", "4", "--batch-size", "2", "--steps", "1"]


@pytest.fixture(autouse=True)
def _threads() -> None:
    """The benchmark sets the number of threads of its process."""
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("objective", "against"), [("sigma_mlp", "straightforward"), ("pixel", "hugging_face")]
)
def test_contenders_do_the_same_work(
    objective: str, against: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal losses of equal weights before the first step; every number there and of its kind."""
    if against == "hugging_face":
        pytest.importorskip("transformers", reason="Hugging Face Transformers is missing")
    options = ["--objective", objective, "--against", against, "--threads", "1", "--json"]
    assert pretrain_step.main([*SMALL, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    losses = [found["first_loss"] for found in report["step"].values()]
    assert set(report["step"]) == {"ours", against}
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert report["times_as_fast"][against]["best_cpu"] > 0
    parts = report["parts_s"]
    used = {"preparation", "encoder", "decoder", "loss", "backward", "optimiser"}
    used |= {"projection", "sinkhorn"} if objective == "sigma_mlp" else set()
    assert all(parts[name] > 0 for name in used)
    assert not parts["teacher"]
    assert 0 < report["mfu"] < 1
    assert report["clips_per_s"] == pytest.approx(2 / report["step"]["ours"]["best_s"], rel=0.01)


def test_the_teacher_is_a_part_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights must be told; memory is given where nobody else is measured beside."""
    assert (
        pretrain_step.main([*SMALL, "--objective", "sigma_dino", "--threads", "1", "--json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["teacher_weights"] == "random"
    assert report["parts_s"]["teacher"] > 0
    assert report["peak_memory_mib"] > 0


def test_objectives_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches another objective that is timed under the first one's masks."""
    options = ["--objective", "sigma_mlp", "--against", "sigma_dual", "sigma_redundancy"]
    assert pretrain_step.main([*SMALL, *options, "--frames", "16", "--threads", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["step"]) == {"ours", "sigma_dual", "sigma_redundancy"}
    assert len({found["first_loss"] for found in report["step"].values()}) == 3


def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Hugging Face has no prototypes: a comparison with other work would be no comparison."""
    assert (
        pretrain_step.main([*SMALL, "--objective", "sigma_mlp", "--against", "hugging_face"]) == 1
    )
    assert "pixel alone" in capsys.readouterr().err


def test_a_part_inside_a_part_is_counted_once() -> None:
    """Parts that overlap would add up to more than the step; and functions must be put back."""

    class Work:
        def outer(self) -> None:
            time.sleep(0.02)
            self.inner()

        def inner(self) -> None:
            time.sleep(0.05)

    work = Work()
    watch = Stopwatch(torch.device("cpu"))
    began = time.perf_counter()
    with watch.timing((work, "outer", "a"), (Work, "inner", "b")), watch.part("rest"):
        work.outer()
    assert watch.seconds["a"] >= 0.02
    assert watch.seconds["b"] >= 0.05
    assert sum(watch.seconds.values()) <= time.perf_counter() - began
    assert not vars(work)
    assert Work.inner.__name__ == "inner"
