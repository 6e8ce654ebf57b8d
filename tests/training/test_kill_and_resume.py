"""A run that is killed a few times ends as if nothing had happened; a script kills more often."""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.training import pretrain_stage

Compose = Callable[..., Params]
LONG = (
    *("trainer.epochs=60", "trainer.checkpoint_every=7", "trainer.log_every=3"),  # 90 steps
    "trainer.probe_every=10",
)


@pytest.fixture
def script(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = project / "workflow" / "kill_and_resume.py"
    spec = importlib.util.spec_from_file_location("kill_and_resume", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kill_and_resume", module)  # dataclasses look there
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


@pytest.mark.system
def test_killed_at_any_moment_and_started_again(
    compose: Compose, workspace: Path, script: ModuleType
) -> None:
    """Catches any state that a SIGKILL can lose: of weights, optimiser, data, log or drop path.

    The first of the kills is while a checkpoint is being written.
    """
    params = compose(*LONG, "++model.drop_path=0.2")
    layout = RunLayout(params.name, "sigma_mlp")
    began = time.monotonic()
    pretrain_stage.run(params, "sigma_mlp")
    expected = script.outcome(workspace, layout)
    layout.folder.rename("uninterrupted")

    seed = random.SystemRandom().randrange(10**6)
    killer = script.Killer(workspace, "sigma_mlp", random.Random(seed))
    killer.longest = 2 * (time.monotonic() - began)
    while killer.kills < 3 and killer.kill_once():
        pass
    found = killer.finish()
    assert found == expected, f"seed {seed}"
    assert killer.kills >= 2, f"seed {seed}"  # the third moment may lie behind the end
    assert killer.while_writing == 1, f"seed {seed}"
