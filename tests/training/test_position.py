"""What a checkpoint keeps to be checked against is what the next step really begins with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.load import order
from pipeline.training import pretrain_stage
from pipeline.training.position import deviations, position, step_seed

Compose = Callable[..., Params]


def test_step_seeds_differ() -> None:
    """Catches steps or parts that share their drop-path decisions, and seeds torch refuses."""
    seeds = {step_seed(seed, s, part) for seed in range(9) for s in range(99) for part in range(3)}
    assert len(seeds) == 9 * 99 * 3
    torch.manual_seed(max(seeds))


def test_each_deviation_is_named(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a check that compares nothing, or that a JSON file in between upsets."""
    trainer = compose().runs["pixel"].trainer
    rates = [0.1, 0.2, 0.3]
    saved = json.loads(json.dumps(position(2, trainer, clips=24, rates=rates)))
    assert deviations(saved, position(2, trainer, clips=24, rates=rates)) == []
    assert deviations(saved, position(2, trainer, clips=24, rates=[0.1, 0.2, 0.4])) == [
        "the learning rate"
    ]
    before = torch.get_rng_state()
    position(3, trainer, clips=24, rates=rates)  # the last step is done
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr(order, "sample_rng", lambda *_: np.random.default_rng(1))
    found = deviations(saved, position(2, trainer, clips=24, rates=rates))
    assert found == ["the random numbers of the samples"]
    assert "the order of the clips" in deviations(
        saved, position(2, trainer, clips=25, rates=rates)
    )


def test_a_resumption_with_other_random_numbers_is_said(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that silently ends elsewhere, after an update of PyTorch say."""
    params = compose("trainer.keep_checkpoints=9")
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    (layout.checkpoints / "step-00000003.pt").unlink()
    (drawn,) = [torch.rand(4)]
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    said = capsys.readouterr().err
    assert "warning: the random numbers of drop path are not what they were" in said
    assert "going on after step 2" in said
    saved = torch.load(next(Path(layout.checkpoints).glob("*2.pt")), weights_only=True)
    assert {"model", "moments", "scaler", "average", "position", "configuration", "log"} <= set(
        saved
    )
    assert saved["sessions"][0]["packages"]["torch"] == torch.__version__.partition("+")[0]
