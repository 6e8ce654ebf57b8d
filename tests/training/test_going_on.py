"""How a training goes on: after an interruption, under other settings or code, or damaged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.checkpoint_sets import SetInfo
from pipeline.runtime.files import read_json, sha256_file
from pipeline.training import pretrain_stage
from pipeline.training.earlier_settings import in_todays_terms
from pipeline.training.identity import Identity, pictures_of
from pipeline.training.loop import initial_model
from pipeline.weights import hub
from tests import optical_flow
from tests.training.interrupted import interrupt_step, move, outcome

Compose = Callable[..., Params]
LONG = ("trainer.epochs=60", "trainer.checkpoint_every=7", "trainer.log_every=3")  # 90 steps
JEPA = (
    "+objective@runs.vjepa.objective=vjepa_demo",
    "+model@runs.vjepa.model=vjepa_demo",
    "+trainer@runs.vjepa.trainer=vjepa_demo",
    "runs.vjepa.trainer.epochs=8",
    "runs.vjepa.trainer.batch_size=8",
    "runs.vjepa.trainer.checkpoint_every=5",
    "runs.vjepa.trainer.log_every=3",
)  # 24 steps


OTHER = ("trainer.epochs=8", "trainer.batch_size=8", "trainer.checkpoint_every=5")  # 24 steps
ADAMAE, SMILE, MGMAE = (
    (f"objective@runs.pixel.objective={name}_demo", *OTHER) for name in ("adamae", "smile", "mgmae")
)
# One pair of frames a step, as RAFT takes its time on a CPU.
RAFT = (
    *(*MGMAE, "runs.pixel.objective.mask.weights=raft.pth"),
    *("data.clip.frames=2", "trainer.epochs=1", "trainer.batch_size=1"),
)
# Their teachers are trained first: sigma_mlp of both, and pixel of MVD.
UMT, MVD = (
    (
        f"+objective@runs.taught.objective={name}_demo",
        "+runs.taught={model: ${model}, trainer: ${trainer}}",
        *("++model.depth=2", "++model.drop_path=0.2"),
        *OTHER,
    )
    for name in ("umt", "mvd")
)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vjepa", JEPA),
        ("pixel", ADAMAE),
        ("pixel", SMILE),
        ("pixel", RAFT),
        ("taught", UMT),
        ("taught", MVD),
    ],
    ids=["vjepa", "adamae", "smile", "raft", "umt", "mvd"],
)
def test_what_a_method_learns_beside_resumes_bit_for_bit(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, name: str, overrides: tuple[str, ...]
) -> None:
    """Catches an average, a schedule or a mask that a killed run of V-JEPA forgets, a sampling
    network or random numbers that one of AdaMAE forgets, other objects in SMILE's clips, tubes that
    RAFT's flow or UMT's teacher chooses otherwise, and one of MVD's two decoders that begins
    afresh."""
    optical_flow.write(Path("raft.pth"))
    params = compose(*overrides)
    for teacher in params.needed(name):
        pretrain_stage.run(params, teacher)
    layout = RunLayout(params.name, name)
    pretrain_stage.run(params, name)
    digest = read_json(layout.pretrained)["teacher_sha256"]
    assert (digest is not None) == (overrides in (RAFT, UMT, MVD))
    uninterrupted = outcome(move(layout, "uninterrupted"))
    model = hub.load_pretraining(RunLayout(params.name, "uninterrupted").weights)
    begun = initial_model(params.runs[name], params.data.clip)
    learnt = "encoder.patch_embed.proj" if overrides != ADAMAE else "mask_network.block.mlp.fc1"
    assert not torch.equal(*(each.get_parameter(f"{learnt}.weight") for each in (model, begun)))

    steps = interrupt_step(monkeypatch, 13)
    with pytest.raises(KeyboardInterrupt):
        pretrain_stage.run(params, name)
    pretrain_stage.run(params, name)
    assert outcome(layout) == uninterrupted
    assert next(steps) == 1 + 13 + 14  # it went on after step 10


def test_checkpoints_from_before_a_setting_are_gone_on_with(compose: Compose) -> None:
    """Catches a new key with a default that begins trainings anew."""
    params = compose()
    now = Identity.of(params, "sigma_mlp").settings
    before = copy.deepcopy(now)
    for key in ("positions", "initialisation", "projection_bias"):
        del before["model"][key]
    assert not {"masks_per_clip", "paste"} & before["objective"].keys()
    for key in ("final_weight_decay", "decay_mask_token", "stretch"):
        del before["trainer"]["optimiser"][key]
    info = SetInfo(before, {}, 1, 1.0)
    assert in_todays_terms(info, pictures_of(params.data)).settings == now


def test_done_is_done(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches training again what is complete; logging more often must not need it either."""
    params = compose()
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    before = outcome(layout)
    for overrides in ((), ("trainer.log_every=2", "trainer.cache_mib=1")):
        capsys.readouterr()
        pretrain_stage.run(compose(*overrides), "pixel")
        assert "going on after step 3" in capsys.readouterr().err
        assert sha256_file(layout.metrics) == before[layout.metrics.name]
        assert overrides or outcome(layout) == before  # else the file holds another configuration
    manifest = read_json(layout.pretrained)
    assert [(s["first_step"], s["last_step"]) for s in manifest["sessions"]] == [(0, 3)]


@pytest.mark.parametrize(
    ("override", "said"),
    [("trainer.epochs=4", "trainer.epochs was 2, is 4"), ("data.clip.flip=true", "data.clip.flip")],
)
def test_other_settings_begin_anew(
    compose: Compose, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    """Catches a resumption under settings that the checkpoint was not made with."""
    pretrain_stage.run(compose(), "pixel")
    params = compose(override)
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert said in capsys.readouterr().err
    resumed = outcome(move(RunLayout(params.name, "pixel"), "resumed"))
    pretrain_stage.run(params, "pixel")
    assert outcome(RunLayout(params.name, "pixel")) == resumed


@pytest.mark.parametrize("finished", [True, False])
def test_other_code_begins_anew(
    compose: Compose,
    capsys: pytest.CaptureFixture[str],
    edit_source: Callable[[str], None],
    finished: bool,
) -> None:
    """Catches weights of older code, finished or half trained, that pass for those of this code."""
    params = compose()
    layout = RunLayout(params.name, "pixel")
    pretrain_stage.run(params, "pixel")
    if not finished:
        (layout.checkpoints / "step-00000003.pt").unlink()
    first = read_json(layout.pretrained)
    edit_source("pipeline/evaluation/recognition/knn.py")  # not of this stage
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert "going on after step" in capsys.readouterr().err
    edit_source("pipeline/method/losses.py")
    pretrain_stage.run(params, "pixel")
    said = capsys.readouterr().err
    assert "the meaning of pipeline/method/losses.py has changed" in said
    assert "going on after step" not in said
    again = read_json(layout.pretrained)
    assert again["code"] != first["code"]
    assert [(s["first_step"], s["last_step"]) for s in again["sessions"]] == [(0, 3)]
    assert list((layout.checkpoints / "set-aside").glob("001-*/*.pt"))


def test_a_damaged_checkpoint_changes_nothing_but_time(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a resumption from the one before that ends elsewhere."""
    params = compose()
    layout = RunLayout(params.name, "sigma_mlp")
    pretrain_stage.run(params, "sigma_mlp")
    expected = outcome(layout)
    newest = layout.checkpoints / "step-00000003.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    pretrain_stage.run(params, "sigma_mlp")
    said = capsys.readouterr().err
    assert "step-00000003.pt is damaged" in said
    assert "going on after step 2" in said
    assert outcome(layout) == expected
