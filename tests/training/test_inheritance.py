"""Trainings that begin with the weights of other runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.cli.lineage.chain import problems
from pipeline.configuration import stages
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, sha256_file
from pipeline.training import pretrain_stage
from pipeline.training.identity import Identity
from pipeline.training.inheritance import Initial, weights_digest
from pipeline.training.loop import initial_model

Compose = Callable[..., Params]
INIT = ("+runs.pixel.init=sigma_mlp",)


def learned(run: str) -> tuple[str, bytes]:
    layout = RunLayout("tiny", run)
    return sha256_file(layout.weights), layout.metrics.read_bytes()


def test_it_begins_with_the_other_runs_encoder(compose: Compose) -> None:
    """Catches fresh weights, an encoder alone where the decoder is asked for, and the reverse."""
    params = compose(*INIT)
    with pytest.raises(UserError, match="run sigma_mlp is to be trained first"):
        pretrain_stage.run(stages.restrict(params, "pretrain", "pixel"), "pixel")
    pretrain_stage.run(params, "sigma_mlp")
    theirs = load_file(RunLayout("tiny", "sigma_mlp").weights)
    for decoder in (False, True):
        params = compose(*INIT, f"+runs.pixel.init_decoder={str(decoder).lower()}")
        run = params.runs["pixel"]
        model, fresh = (initial_model(run, params.data.clip) for _ in range(2))
        initial = Initial.of("tiny", run, params.data.clip)
        assert initial is not None
        initial.load(model)
        for name, value in model.state_dict().items():
            is_taken = name.startswith("encoder.") or (
                decoder and name.startswith(("decoder.blocks", "encoder_to", "mask_token"))
            )
            expected = theirs[name] if is_taken else fresh.state_dict()[name]
            if not name.startswith("decoder.norm"):  # a LayerNorm that may be as it began
                assert torch.equal(value, expected), name
    pretrain_stage.run(stages.restrict(params, "pretrain", "pixel"), "pixel")
    manifest = read_json(RunLayout("tiny", "pixel").pretrained)
    assert manifest["init"]["run"] == "sigma_mlp"
    assert manifest["init"]["decoder"]
    assert problems(RunLayout("tiny", "pixel").pretrained) == []


def test_interrupted_it_ends_as_uninterrupted(compose: Compose) -> None:
    """Catches a resumed training that begins with the other run's weights once more."""
    params = compose(*INIT, "trainer.checkpoint_every=1")
    pretrain_stage.run(params, "sigma_mlp")
    pretrain_stage.run(params, "pixel")
    layout, whole = RunLayout("tiny", "pixel"), learned("pixel")
    last = sorted(layout.checkpoints.glob("step-*.pt"))[-1]
    for path in (last, layout.checkpoints / "finished.json"):
        path.unlink()
    assert list(layout.checkpoints.glob("step-*.pt"))
    pretrain_stage.run(params, "pixel")
    assert learned("pixel") == whole


def test_what_it_begins_with_is_a_part_of_what_it_is(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that stays when the other has learned otherwise, or is repeated in vain."""
    params = compose(*INIT)
    plain = compose()
    pretrain_stage.run(params, "sigma_mlp")
    assert "inherited" not in Identity.of(plain, "pixel").settings
    pretrain_stage.run(params, "pixel")
    first = Identity.of(params, "pixel")

    logging = compose(*INIT, "trainer.log_every=2")  # other bytes of the file, equal tensors
    before = sha256_file(RunLayout("tiny", "sigma_mlp").weights)
    pretrain_stage.run(logging, "sigma_mlp")
    assert sha256_file(RunLayout("tiny", "sigma_mlp").weights) != before
    assert Identity.of(logging, "pixel") == first
    capsys.readouterr()
    pretrain_stage.run(params, "pixel")
    assert "untrained" not in capsys.readouterr().err
    assert problems(RunLayout("tiny", "pixel").pretrained) == []  # with the new hash of the file

    other = compose(*INIT, "runs.sigma_mlp.objective.mask.ratio=0.5")
    pretrain_stage.run(other, "sigma_mlp")
    assert Identity.of(other, "pixel").settings != first.settings
    whole = learned("pixel")
    pretrain_stage.run(other, "pixel")
    assert learned("pixel") != whole


def test_what_does_not_fit_is_named(compose: Compose, tmp_path: Path) -> None:
    """Catches weights that are taken in part without a word."""
    params = compose()
    pretrain_stage.run(params, "sigma_mlp")
    tensors = load_file(RunLayout("tiny", "sigma_mlp").weights)
    gone = tensors.pop("encoder.norm.weight")
    tensors["encoder.extra"] = gone.clone()
    save_file(tensors, tmp_path / "other.safetensors")
    params = compose(f"+runs.pixel.init={tmp_path / 'other.safetensors'}")
    with pytest.raises(UserError, match=r"missing: encoder\.norm\.weight\n.*encoder\.extra"):
        pretrain_stage.run(params, "pixel")
    assert weights_digest(tmp_path / "other.safetensors")
    whole = RunLayout("tiny", "sigma_mlp").weights.rename(tmp_path / "whole.safetensors")
    with pytest.raises(UserError, match="background None, here subtract"):
        compose(f"+runs.pixel.init={whole}", "model.background=subtract")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("+runs.pixel.init=gone",), "runs.pixel.init names gone, which is no run"),
        (("+runs.pixel.init=pixel",), "pixel needs pixel"),
        (
            ("+runs.pixel.init=sigma_mlp", "+runs.sigma_mlp.init=pixel"),
            "sigma_mlp needs pixel needs sigma_mlp",
        ),
        (("+runs.random.init=pixel",), "set trainer.epochs above 0"),
        (("+runs.pixel.init_decoder=true",), "init_decoder needs init"),
        (
            (
                "+runs.third={trainer: ${trainer}, init: pixel}",
                "+objective@runs.third.objective=pixel_demo",
                "+model@runs.third.model=demo",
            ),
            "another one: tube 2x8x8, here 4x8x8; width 32",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    overrides: tuple[str, ...], message: str, compose: Compose
) -> None:
    """Catches an order of runs that cannot be, or an encoder that cannot be taken."""
    with pytest.raises(UserError, match=message):
        compose(*overrides)


def test_dvc_and_snakemake_see_what_comes_first(compose: Compose) -> None:
    """Catches a run that DVC does not train again when the one that it begins with is."""
    third = "+runs.third={model: ${model}, trainer: ${trainer}, init: pixel}"
    chain = (*INIT, third, "+objective@runs.third.objective=pixel_demo")
    params = compose(*chain)
    assert params.needed("third") == ["sigma_mlp", "pixel"]
    other = compose(*chain, "runs.sigma_mlp.objective.mask.ratio=0.5")
    for run, changes in (("sigma_mlp", False), ("pixel", True), ("third", True)):
        hashes = {stages.needs_sha256(each, run) for each in (params, other)}
        assert len(hashes) == 1 + changes
    assert stages.needs_sha256(params, "random") == ""
