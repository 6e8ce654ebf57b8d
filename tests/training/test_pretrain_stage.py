"""The stage as a user runs it: what it writes, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.method.frozen_network import tensors_digest
from pipeline.method.targets import FrozenTarget
from pipeline.runtime.files import read_json, sha256_file
from pipeline.training import loop, pretrain_stage
from pipeline.training.identity import Identity
from pipeline.training.loop import StepResult, initial_model, train_step
from pipeline.training.schedules import learning_rates
from pipeline.weights import hub
from tests.training.interrupted import move, outcome

Compose = Callable[..., Params]


def test_what_the_stage_writes(compose: Compose) -> None:
    """Catches a manifest that does not vouch for the files beside it, or a log with gaps."""
    params = compose("trainer.log_every=2")
    pretrain_stage.run(params, "sigma_mlp")
    layout = RunLayout(params.name, "sigma_mlp")
    manifest = read_json(layout.pretrained)
    assert manifest["model_sha256"] == sha256_file(layout.weights)
    assert manifest["metrics_sha256"] == sha256_file(layout.metrics)
    pictures = read_json(DataLayout(params.data.name).pictures)
    assert manifest["pictures_sha256"] == pictures["sha256"]
    assert manifest["configuration"] == params.runs["sigma_mlp"].model_dump(mode="json")
    assert (manifest["steps"], manifest["clips"], manifest["epochs"]) == (3, 24, 2)
    assert manifest["seconds"] > 0
    lines = [json.loads(line) for line in layout.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert manifest["final_loss"] == lines[-1]["loss"]
    assert {"epoch", "lr", "grad_norm", "prototypes_used"} <= lines[0].keys()
    model = hub.load(layout.weights)
    assert manifest["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_engines_for_several_processes_train_in_one(compose: Compose, engine: str) -> None:
    """Catches an engine that needs a launcher even where there is one process: one GPU."""
    params = compose()
    pretrain_stage.run(params, "sigma_mlp")
    layout = RunLayout(params.name, "sigma_mlp")
    alone = load_file(layout.weights)
    move(layout, "alone")
    pretrain_stage.run(compose(f"trainer.engine={engine}"), "sigma_mlp")
    for name, weights in load_file(layout.weights).items():
        torch.testing.assert_close(weights, alone[name])


def test_small_data_is_repeated_until_there_are_enough_steps(compose: Compose) -> None:
    """Catches a few videos that are trained on for a few steps, and an untrained run that trains.

    24 clips in batches of 16: two epochs are 3 steps, ten steps are six epochs and two thirds.
    """
    params = compose("trainer.least_steps=10", "trainer.warmup_epochs=1")
    outcomes = {}
    for run in ("pixel", "random"):
        pretrain_stage.run(params, run)
        outcomes[run] = read_json(RunLayout(params.name, run).pretrained)
    assert (outcomes["pixel"]["steps"], outcomes["pixel"]["epochs"]) == (10, 6)
    assert (outcomes["random"]["steps"], outcomes["random"]["epochs"]) == (0, 0)
    last = [json.loads(line) for line in RunLayout(params.name, "pixel").metrics.open()][-1]
    assert last["step"] == 10
    assert last["lr"] == learning_rates(params.runs["pixel"].trainer, clips=24)[-1]
    settings = Identity.of(params, "pixel").settings["trainer"]
    assert settings["least_steps"] == 10
    assert "least_steps" not in Identity.of(compose(), "pixel").settings["trainer"]


@pytest.mark.parametrize("run", ["sigma_mlp", "pixel"])
def test_a_deterministic_training_is_the_same(
    compose: Compose, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a setting that no step sees, an operation of a step that cannot be repeated, and a
    traceback where there is one."""
    params = compose()
    pretrain_stage.run(params, run)
    layout = RunLayout(params.name, run)
    alone = load_file(layout.weights)
    move(layout, "alone")
    seen: list[bool] = []

    def step(*arguments: Any) -> StepResult:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return train_step(*arguments)

    monkeypatch.setattr(loop, "train_step", step)
    pretrain_stage.run(compose("trainer.deterministic=true"), run)
    assert seen == [True] * 3
    assert not torch.are_deterministic_algorithms_enabled()
    written = load_file(layout.weights)
    assert all(torch.equal(alone[name], written[name]) for name in alone)

    def overwriting(*_: Any) -> None:  # which of two values stays is up to the threads
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))

    monkeypatch.setattr(loop, "train_step", overwriting)
    with pytest.raises(UserError, match="put_ does not have") as refused:
        pretrain_stage.run(compose("trainer.deterministic=true", "trainer.seed=5"), run)
    assert refused.value.place == "trainer.deterministic"


def test_no_epochs_write_the_model_as_it_began(compose: Compose) -> None:
    """Catches a `random` baseline that was trained, or that is not where the others start."""
    params = compose()
    pretrain_stage.run(params, "random")
    layout = RunLayout(params.name, "random")
    assert layout.metrics.read_bytes() == b""
    manifest = read_json(layout.pretrained)
    assert (manifest["steps"], manifest["final_loss"], manifest["sessions"]) == (0, None, [])
    begun = initial_model(params.runs["sigma_mlp"], params.data.clip).encoder.state_dict()
    written = hub.load(layout.weights).encoder.state_dict()
    assert all(torch.equal(begun[name], written[name]) for name in begun)


def test_equal_runs_and_only_they_are_equal(compose: Compose) -> None:
    """Catches hidden randomness, and a seed that changes nothing."""
    results = []
    for name, overrides in (("a", ()), ("b", ()), ("c", ("trainer.seed=1",))):
        params = compose("++model.drop_path=0.2", *overrides)
        pretrain_stage.run(params, "sigma_mlp")
        results.append(outcome(move(RunLayout(params.name, "sigma_mlp"), name)))
    assert results[0] == results[1]
    for name, digest in results[0].items():
        assert digest != results[2][name], name


def test_what_is_not_finite_stops_the_run(compose: Compose) -> None:
    """Catches weights of NaN that are saved, and an error that does not say where to look."""
    params = compose("trainer.epochs=20", "trainer.optimiser.base_lr=1e38")
    layout = RunLayout(params.name, "sigma_mlp")
    with pytest.raises(UserError, match="in step") as caught:
        pretrain_stage.run(params, "sigma_mlp")
    assert "rank 0" in caught.value.place
    assert "train-000" in caught.value.place
    assert "step-000000" in caught.value.remedy
    assert not layout.pretrained.exists()
    assert not layout.weights.exists()
    for path in layout.checkpoints.glob("*.pt"):
        for value in torch.load(path, weights_only=True)["model"].values():
            assert torch.isfinite(value).all()


def test_the_frozen_network_is_recorded_and_must_stay(compose: Compose, tmp_path: Path) -> None:
    """Catches weights of a teacher that nobody can tell afterwards, that are stored with the model,
    or that are another's after an interruption."""
    name, file = "test_vit.r160_in1k", tmp_path / "teacher.safetensors"
    teacher = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    save_file(teacher.state_dict(), file)
    params = compose("trainer.epochs=1")
    target = FrozenTarget(model=name, weights=str(file))
    chosen = params.runs["sigma_mlp"]
    objective = chosen.objective.model_copy(update={"target": target})
    runs = {"dino": chosen.model_copy(update={"objective": objective})}
    params = params.model_copy(update={"runs": runs})
    pretrain_stage.run(params, "dino")
    layout = RunLayout(params.name, "dino")
    digest = tensors_digest(teacher.state_dict())
    assert read_json(layout.pretrained)["teacher_sha256"] == digest
    (path,) = layout.checkpoints.glob("*.pt")
    for names in (torch.load(path, weights_only=True)["model"], load_file(layout.weights)):
        assert not any("patch_embed" in n for n in names if not n.startswith("encoder."))

    with torch.no_grad():
        teacher.norm.bias.add_(1)
    save_file(teacher.state_dict(), file)
    with pytest.raises(UserError, match=digest):
        pretrain_stage.run(params, "dino")
    assert not layout.pretrained.exists()


def test_without_a_clip_there_is_a_clear_error(compose: Compose) -> None:
    """Catches a division by zero, or a run that trains on nothing."""
    params = compose("data.pretrain_splits=[val]")
    with pytest.raises(UserError, match="no clip to pretrain on"):
        pretrain_stage.run(params, "pixel")


def test_without_a_compiler_there_is_a_clear_error(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a screen of PyTorch's own words where a recipe compiles and a machine cannot."""
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "/there/is/none"))
    monkeypatch.setattr(config, "force_disable_caches", True)
    try:
        with pytest.raises(UserError, match="cannot be compiled") as caught:
            pretrain_stage.run(compose("trainer.compile=true"), "pixel")
    finally:
        torch.compiler.reset()
    assert "trainer.compile" in str(caught.value)
    assert "python3-dev" in str(caught.value)


def test_a_clip_that_is_left_out_is_on_record(compose: Compose) -> None:
    """Catches training on fewer clips than the manifest says, also after a resumption."""
    params = compose("trainer.max_failed_share=0.1", "trainer.checkpoint_every=1")
    shards = DataLayout(params.data.name).shards
    entry = DatasetIndex.load(shards).clips(["train"])[5]
    with entry.shard.open("r+b") as file:
        file.seek(entry.offset)
        file.write(bytes(entry.size))
    pretrain_stage.run(params, "pixel")
    layout = RunLayout(params.name, "pixel")
    first = read_json(layout.pretrained)
    assert list(first["failed_clips"]) == [entry.id]
    assert first["sessions"][0]["failed_clips"] == first["failed_clips"]
    newest = max(layout.checkpoints.glob("step-*.pt"))
    newest.unlink()
    pretrain_stage.run(params, "pixel")
    again = read_json(layout.pretrained)
    assert len(again["sessions"]) == 2
    assert again["failed_clips"] == first["failed_clips"]


def test_a_manifest_never_vouches_for_a_run_that_failed(compose: Compose) -> None:
    """Catches the manifest of an earlier run left beside the results of a later one."""
    params = compose()
    pretrain_stage.run(params, "pixel")
    broken = compose("trainer.optimiser.base_lr=1e38", "trainer.epochs=20")
    with pytest.raises(UserError):
        pretrain_stage.run(broken, "pixel")
    assert not RunLayout(params.name, "pixel").pretrained.exists()
