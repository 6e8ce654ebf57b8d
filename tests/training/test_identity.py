"""What a training learns from and is made by: what goes on, what begins anew, what is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli.commands import checkpoints as command
from pipeline.configuration import code, old_names
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.records import ChunkManifest
from pipeline.data.shards import index_stage, shard_stage
from pipeline.errors import UserError
from pipeline.runtime import checkpoints
from pipeline.runtime.claims import Claim
from pipeline.runtime.files import read_json, sha256_file, write_text
from pipeline.training import pretrain_stage
from pipeline.training.identity import Identity
from tests.training.interrupted import outcome

Compose = Callable[..., Params]
LEARNS = "pipeline/method/losses.py"


def relabelled(params: Params) -> None:
    """Correct a label in what the decode stage handed on, and pack and list the clips again."""
    layout = DataLayout(params.data.name)
    for chunk in range(params.data.chunks):
        path = layout.decoded(chunk)
        manifest = ChunkManifest.read(path)
        manifest.clips[0].labels = {"label": "another", "further": "column"}
        manifest.write(path)
        shard_stage.run(params, chunk)
    index_stage.run(params)


def test_a_label_is_not_learned_from(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a training that one corrected label repeats; the index changes, the pictures stay."""
    params = compose()
    data, layout = DataLayout(params.data.name), RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    before, index = outcome(layout, layout.pretrained), sha256_file(data.index)
    pictures = data.pictures.read_bytes(), data.pictures.stat().st_mtime_ns
    layout.pretrained.unlink()  # as Snakemake does before a job
    relabelled(params)
    assert sha256_file(data.index) != index
    assert (data.pictures.read_bytes(), data.pictures.stat().st_mtime_ns) == pictures
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert "nothing is left to train" in capsys.readouterr().err
    assert outcome(layout, layout.pretrained) == before


def test_an_unfinished_training_goes_on_after_a_label_has_changed(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an identity that a finished run alone is spared; another size of shards, too."""
    params = compose("trainer.checkpoint_every=1")
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    weights = sha256_file(layout.weights)
    (layout.checkpoints / "step-00000003.pt").unlink()
    params = compose("trainer.checkpoint_every=1", "data.shards.clips_per_shard=5")
    relabelled(params)
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert "going on after step 2" in capsys.readouterr().err
    assert sha256_file(layout.weights) == weights


def test_a_decoder_of_other_pixels_is_another_training(compose: Compose) -> None:
    """Catches a training that goes on with pixels that are rounded otherwise, and one that begins
    anew for a decoder of equal ones."""
    index_stage.run(compose())
    made = {
        decoder: Identity.of(compose(f"trainer.decoder={decoder}"), "pixel").settings
        for decoder in ("auto", "decord", "torchcodec", "pyav", "nvdec")
    }
    assert made["auto"] == made["decord"] == made["torchcodec"] == made["pyav"] != made["nvdec"]


def test_another_picture_is_learned_from(compose: Compose) -> None:
    """Catches a hash of something else than the pictures."""
    params = compose()
    data = DataLayout(params.data.name)
    before = read_json(data.pictures)
    manifest = ChunkManifest.read(data.decoded(0))
    one, other = manifest.clips[:2]
    one.file, other.file = other.file, one.file
    for clip in (one, other):
        clip.sha256 = sha256_file(clip.file)  # as the decode stage notes it
    manifest.write(data.decoded(0))
    shard_stage.run(params, 0)
    index_stage.run(params)
    assert read_json(data.pictures)["clips"] == before["clips"]
    assert read_json(data.pictures)["sha256"] != before["sha256"]


def test_there_and_back_again(
    compose: Compose,
    capsys: pytest.CaptureFixture[str],
    edit_source: Callable[[str], None],
) -> None:
    """Catches finished weights, curves or checkpoints that are gone when they fit again: A, B, A by
    the code, then by a setting, of which B goes on, too."""
    params = compose()
    layout = RunLayout(params.name, "pixel")
    source = code.PROJECT / LEARNS
    text = source.read_text(encoding="utf-8")
    pretrain_stage.run(params, "pixel")
    first = outcome(layout, layout.pretrained)

    edit_source("pipeline/training/messages.py")  # decides nothing
    source.write_text(f"# a remark\n{text}", encoding="utf-8")
    pretrain_stage.run(params, "pixel")
    assert outcome(layout, layout.pretrained) == first

    edit_source(LEARNS)
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    said = capsys.readouterr().err
    assert "beginning anew" in said
    assert LEARNS in said
    source.write_text(text, encoding="utf-8")
    pretrain_stage.run(params, "pixel")
    assert "brought back" in capsys.readouterr().err
    other = compose("trainer.epochs=4")
    pretrain_stage.run(other, "pixel")
    assert "trainer.epochs was 2, is 4" in capsys.readouterr().err
    second = sha256_file(layout.weights)
    for again, weights in ((params, first["model.safetensors"]), (other, second)):
        pretrain_stage.run(again, "pixel")
        said = capsys.readouterr().err
        assert "brought back" in said
        assert "going on after step" in said
        assert sha256_file(layout.weights) == weights
    kept = list((layout.checkpoints / "set-aside").iterdir())
    assert len(kept) == 2
    for folder in kept:
        there = {path.name for path in folder.iterdir()}
        assert {"set.json", "finished.json", "model.safetensors", "metrics.csv"} <= there


def test_names_are_no_part_of_a_training(
    compose: Compose, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a training that is repeated because the data set, or the experiment, is called
    otherwise; one that is taken for this one; and a half copy that is."""
    params = compose()
    first = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    (workspace / "data/synthetic_tiny").rename(workspace / "data/renamed")
    renamed = compose("data.name=renamed")
    before = outcome(first, first.pretrained)
    pretrain_stage.run(renamed, "pixel")
    assert outcome(first, first.pretrained) == before

    moved = compose("data.name=renamed", "name=moved")
    layout = RunLayout("moved", "pixel")
    capsys.readouterr()
    pretrain_stage.run(moved, "pixel")
    said = capsys.readouterr().err
    assert f"copied from {first.folder}" in said
    assert "nothing is left to train" in said
    names = {"experiment": "moved", "run": "pixel"}
    assert read_json(layout.pretrained) == read_json(first.pretrained) | names
    assert outcome(layout).items() < before.items()

    other = compose("data.name=renamed", "name=other", "trainer.seed=5")
    pretrain_stage.run(other, "pixel")
    assert "copied" not in capsys.readouterr().err

    for folder in (layout.folder, RunLayout("other", "pixel").folder):
        shutil.rmtree(folder)
    max(first.checkpoints.glob("*.pt")).write_bytes(b"damaged")
    pretrain_stage.run(moved, "pixel")
    assert "copied" not in capsys.readouterr().err
    assert sha256_file(layout.weights) == before["model.safetensors"]


def test_long_trainings_ask(
    compose: Compose,
    capsys: pytest.CaptureFixture[str],
    edit_source: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches days of training that an edit puts aside without a word, and a resumption that is not
    on record."""
    monkeypatch.setattr(checkpoints, "SHORT_S", 0.0)
    params = compose("trainer.checkpoint_every=1")
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    for path in layout.checkpoints.glob("step-00000003.pt*"):
        path.unlink()
    edit_source(LEARNS)
    for _ in range(2):
        with pytest.raises(UserError, match=LEARNS) as caught:
            pretrain_stage.run(params, "pixel")
    for choice in ("resume", "restart"):
        assert choice in caught.value.remedy
    assert (layout.checkpoints / "step-00000002.pt").exists()
    resumed = compose("trainer.checkpoint_every=1", "trainer.on_code_change=resume")
    capsys.readouterr()
    pretrain_stage.run(resumed, "pixel")
    assert "going on after step 2" in capsys.readouterr().err
    assert read_json(layout.pretrained)["code_changes"] == [{"step": 2, "files": [LEARNS]}]
    pretrain_stage.run(params, "pixel")  # what was gone on with is of this code now
    assert read_json(layout.pretrained)["code_changes"] == [{"step": 2, "files": [LEARNS]}]


def aged(path: Path) -> None:
    """Make of a checkpoint what the version before pictures and files were noted had written."""
    body = torch.load(path, weights_only=True)
    settings = json.loads(body["settings"])
    settings["code"] = "ab" * 32
    settings["data"] = {"clip": settings["data"]["clip"], "shards": "cd" * 32}
    del body["code"], body["code_changes"], settings["trainer"]["seed"]
    settings["trainer"]["seed"] = 0
    rewrite(path, body | {"format": 2}, settings)


def rewrite(path: Path, body: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write a checkpoint with these settings, and its hash."""
    torch.save(body | {"settings": json.dumps(settings, sort_keys=True)}, path)
    write_text(path.with_name(f"{path.name}.sha256"), f"{sha256_file(path)}  {path.name}\n")


@pytest.mark.parametrize("run", ["pixel", "sigma_mlp"])
def test_settings_under_old_names_are_the_same_settings(run: str, compose: Compose) -> None:
    """Catches a training that begins anew since a key of its objective has another name."""
    params = compose()
    layout = RunLayout(params.name, run)
    pretrain_stage.run(params, run)
    weights, path = sha256_file(layout.weights), layout.checkpoints / "step-00000003.pt"
    body = torch.load(path, weights_only=True)
    settings = json.loads(body["settings"])
    objective = settings["objective"]
    loss = {"prototypes": 3000, "epsilon": 0.05, "iterations": 10, "temperature": 0.1}
    loss |= objective["loss"]
    settings["objective"] = {
        "target": objective["target"],
        "loss": loss["kind"],
        "mask": objective["mask"] | {"motion": None},
        **{key: loss[key] for key in old_names.LOSS},
    }
    rewrite(path, body, settings)
    (layout.checkpoints / "finished.json").unlink()
    pretrain_stage.run(params, run)
    assert not (layout.checkpoints / "set-aside").exists()
    assert sha256_file(layout.weights) == weights
    assert read_json(layout.pretrained)["code_changes"] == []


def test_older_checkpoints_are_asked_about(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches trainings of before that nobody can go on with, or that are gone on with unasked."""
    monkeypatch.setattr(checkpoints, "SHORT_S", 0.0)
    params = compose()
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    weights = sha256_file(layout.weights)
    aged(layout.checkpoints / "step-00000003.pt")
    (layout.checkpoints / "finished.json").unlink()
    with pytest.raises(UserError, match="before files and pictures were noted"):
        pretrain_stage.run(params, "pixel")
    pretrain_stage.run(compose("trainer.on_code_change=resume"), "pixel")
    assert sha256_file(layout.weights) != weights  # it holds the configuration
    assert read_json(layout.pretrained)["code_changes"] == [{"step": 3, "files": []}]


def test_the_command_lists_and_brings_back(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a set that is listed without what differs, or that is lost on its way back."""
    from pipeline.cli import main as cli

    layout = RunLayout("tiny", "pixel")
    pretrain_stage.run(compose(), "pixel")
    weights = sha256_file(layout.weights)
    pretrain_stage.run(compose("trainer.epochs=4"), "pixel")
    assert cli.main(["checkpoints", "pixel"]) == 0
    said = capsys.readouterr().out
    assert "1: step 3" in said
    assert "trainer.epochs was 2, is 4" in said
    assert cli.main(["checkpoints", "pixel", "--bring-back", "7"]) == 2
    assert cli.main(["checkpoints", "pixel", "--bring-back", "1"]) == 0
    assert sha256_file(layout.weights) == weights
    assert "2: step" in capsys.readouterr().out
    assert command.SUMMARY


def test_two_at_once_are_one(compose: Compose) -> None:
    """Catches two pretrainings that write into one log."""
    params = compose()
    layout = RunLayout(params.name, "random")
    claim = Claim(layout.checkpoints)
    assert claim.take()
    with pytest.raises(UserError, match="another process is at work"):
        pretrain_stage.run(params, "random")
    claim.release()
    leftover = layout.folder / ".model.0123abcd.tmp.safetensors"
    leftover.write_bytes(b"of a writer that was killed")
    pretrain_stage.run(params, "random")
    assert not leftover.exists()
    assert not claim.path.exists()
    assert os.listdir(layout.checkpoints) == ["finished.json"]  # noqa: PTH208
