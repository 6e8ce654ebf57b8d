"""What was called otherwise before is read, and its name of today is told."""

from __future__ import annotations

import pytest
import yaml

from pipeline.configuration import composition, old_names
from pipeline.configuration.schema import Objective

OVERRIDES = {
    "objective.epsilon=0.2": "objective.loss.epsilon=0.2",
    "++runs.a.objective.prototypes=8": "++runs.a.objective.loss.prototypes=8",
    "objective.mask.motion.share=0.3": "objective.mask.share=0.3",
    "objective.mask.kind=motion": "objective/mask=motion",
    "runs.a.objective.mask.kind=tube": "objective/mask@runs.a.objective.mask=tube",
    "objective.loss=mse": "objective/loss=mse",
    "objective.target.kind=dino": "objective.target.kind=frozen",
}


@pytest.mark.parametrize(("before", "after"), OVERRIDES.items())
def test_an_override_of_before_is_one_of_today(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a script of last year that ends, or that sets nothing without a word."""
    assert old_names.current([before, "trainer.epochs=7"]) == [after, "trainer.epochs=7"]
    old_names.tell_overrides([before, "trainer.epochs=7"])
    assert capsys.readouterr().err == f"note: {before} is now {after}\n"
    assert old_names.current([after]) == [after]
    old_names.tell_overrides([after])
    assert capsys.readouterr().err == ""


def test_old_overrides_compose_what_new_ones_do() -> None:
    """Catches a name of today that Hydra does not know."""
    recipe = "experiment=ssv2_vit_base_mlp"
    for before, after in OVERRIDES.items():
        if "runs.a" not in before and "motion.share" not in before and "loss=mse" not in before:
            if "dino" in before:
                continue  # a target of that kind has other keys
            assert composition.compose([recipe, before]) == composition.compose([recipe, after])


def test_a_configuration_file_of_before_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches params.yaml, weights and manifests of before that can no longer be read."""
    values = yaml.safe_load(composition.compose(["experiment=tiny"]))
    now = composition.validate(values, place="now").runs["sigma_mlp"].objective
    written = values["runs"]["sigma_mlp"]["objective"]
    flat = {key: written["loss"][key] for key in old_names.LOSS}
    before = written | flat | {"loss": "sinkhorn"}
    before["mask"] = before["mask"] | {"motion": {"share": 0.5, "contrast": 8.0}}
    assert Objective.model_validate(before) == now
    values["runs"]["sigma_mlp"]["objective"] = before
    params = composition.parse(yaml.safe_dump(values), place="params.yaml")
    assert params.runs["sigma_mlp"].objective == now
    assert "runs.sigma_mlp.objective" in capsys.readouterr().err
    teacher = before | {"target": {"kind": "dino", "model": "vit_base_patch16_224.dino"}}
    assert Objective.model_validate(teacher).target.kind == "frozen"
