"""The same numbers in every tool that is switched on, also after a resumption, and no trouble."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.configuration.schema import Profile, Tracking
from pipeline.errors import UserError
from pipeline.training import tracking
from pipeline.training.profiling import profiled
from pipeline.training.tracking import TrackedRun, Trackers

LINES = [{"step": step, "epoch": 0, "loss": 1 / step} for step in range(1, 7)]


def tracked(folder: Path, done: int = 0) -> TrackedRun:
    configuration = {"trainer": {"epochs": 2, "ema": None}, "model": {"tube": [2, 16, 16]}}
    return TrackedRun("tiny", "pixel", folder / "run", "abc", configuration, done)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No tool may look for a server, or for settings of the user's."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):  # the tools leave some behind
        del os.environ[name]


def killed_and_resumed(folder: Path, settings: Tracking, said: list[str]) -> None:
    """Show steps 1 to 4 and die without a word; resume after step 2 and go on to 6."""
    first = Trackers(settings, tracked(folder), said.append)
    for line in LINES[:4]:
        first.log(line["step"], line, {"step": line["step"], "clips_per_s": 8.0})
    if settings.mlflow:  # what was sent before the kill
        for sent in first.trackers["mlflow"].sent:  # type: ignore[attr-defined]
            sent.wait()
    with Trackers(settings, tracked(folder, done=2), said.append) as second:
        for line in LINES[2:]:
            second.log(line["step"], line, {"step": line["step"], "clips_per_s": 8.0})


def test_tensorboard(tmp_path: Path, said: list[str]) -> None:
    """Catches numbers that never reach the disk, and steps that are shown twice."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed_and_resumed(tmp_path, Tracking(tensorboard=True), said)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"epoch", "loss", "clips_per_s"}
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(line["step"], pytest.approx(line["loss"])) for line in LINES]
    assert said == []


@pytest.mark.system
def test_mlflow(tmp_path: Path, said: list[str]) -> None:
    """Catches a second run for a resumed one, doubled steps, and settings that are not shown."""
    mlflow = pytest.importorskip("mlflow")
    uri = f"file:{tmp_path / 'mlruns'}"
    killed_and_resumed(tmp_path, Tracking(mlflow=uri), said)
    client = mlflow.MlflowClient(tracking_uri=uri)
    home = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([home])
    assert (run.info.run_name, run.info.status) == ("pixel", "FINISHED")
    assert run.data.params["model.tube"] == "[2, 16, 16]"
    history = client.get_metric_history(run.info.run_id, "loss")
    shown = sorted((metric.step, metric.value) for metric in history)  # they overtake each other
    assert shown == [(line["step"], line["loss"]) for line in LINES]
    assert said == []


@pytest.mark.system
def test_weights_and_biases(tmp_path: Path, said: list[str]) -> None:
    """Catches a second run for a resumed one; what is sent is the tool's own affair."""
    pytest.importorskip("wandb")
    with Trackers(Tracking(wandb="sigma"), tracked(tmp_path), said.append) as trackers:
        for line in LINES:
            trackers.log(line["step"], line)
        run = trackers.trackers["wandb"].run  # type: ignore[attr-defined]
        assert (run.id, run.name, run.project) == (tracked(tmp_path).id, "pixel", "sigma")
        assert run.config["trainer"]["epochs"] == 2
        assert run.summary["loss"] == LINES[-2]["loss"]  # the last step may still grow
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 30
    while kept.stat().st_size < 500 and time.monotonic() < deadline:  # a process of the tool's own
        time.sleep(0.05)
    assert kept.stat().st_size > 500
    assert said == []


def test_a_run_is_known_again(tmp_path: Path) -> None:
    """Catches a resumption that is shown as another run, and two runs that are shown as one."""
    one = tracked(tmp_path)
    assert one.id == tracked(tmp_path / "elsewhere", done=5).id
    others = [
        TrackedRun("tiny", "other", tmp_path, "abc", {}),
        TrackedRun("tiny", "pixel", tmp_path, "d", {}),
    ]
    assert len({one.id, *(other.id for other in others)}) == 3


def test_switched_on_but_not_there(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches hours of training that nobody can watch, and a traceback in place of a word."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is switched on, but not installed") as caught:
        Trackers(Tracking(wandb="sigma"), tracked(tmp_path), said.append)
    assert caught.value.place == "trainer.tracking.wandb"
    assert not Trackers(Tracking(), tracked(tmp_path), said.append)


def test_a_folder_that_is_none_is_a_clear_error(tmp_path: Path, said: list[str]) -> None:
    """Catches a traceback where a tool cannot begin."""
    pytest.importorskip("tensorboard")
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(UserError, match="tensorboard cannot begin"):
        Trackers(Tracking(tensorboard=True), tracked(tmp_path), said.append)


def test_a_tool_that_fails_later_is_only_switched_off(tmp_path: Path, said: list[str]) -> None:
    """Catches a training that dies because its server did."""

    class Broken:
        def log(self, step: int, values: dict[str, float]) -> None:
            raise ConnectionError("the server is gone\nand more")

        def close(self, *, failed: bool) -> None:
            raise AssertionError("it was switched off")

    trackers = Trackers(Tracking(), tracked(tmp_path), said.append)
    trackers.trackers["mlflow"] = Broken()
    with trackers:
        trackers.log(1, LINES[0])
        trackers.log(2, LINES[1])
    assert said == ["warning: mlflow failed and is switched off: the server is gone"]


def test_no_tool_is_imported_for_nothing() -> None:
    """Catches seconds of imports in every training that uses none."""
    source = Path(tracking.__file__).read_text(encoding="utf-8")
    top = source[: source.index("class Tracker")]
    assert not any(f"import {tool}" in top for tool in ("wandb", "mlflow", "tensorboard"))


@pytest.mark.system
def test_profile(tmp_path: Path, said: list[str]) -> None:
    """Catches a switch that does nothing, or that traces steps which were not asked for."""
    import torch

    matrix = torch.ones(8, 8)
    with profiled(Profile(after=2, steps=2), tmp_path / "profile", said.append) as trace:
        for step in range(6):
            for _ in range(10 * (step + 1)):
                matrix @ matrix
            trace()
    table = (tmp_path / "profile" / "operators.txt").read_text()
    (row,) = [line for line in table.splitlines() if line.split()[:1] == ["aten::mm"]]
    assert row.split()[-1] == "70"  # of the third and the fourth step
    assert (tmp_path / "profile" / "trace.json.gz").stat().st_size > 1000
    assert len(said) == 1
    with profiled(None, tmp_path / "none", said.append) as trace:
        trace()
    assert not (tmp_path / "none").exists()
