"""Further data sets and encoders: what lists stand for, and what settings are on each."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.configuration import composition, several, stages
from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.weights import hub

SSV2 = ("+data@evaluation_data.ssv2=ssv2", "evaluation_data.ssv2.labels=[template]")


def params_of(*overrides: str) -> Params:
    return composition.parse(composition.compose(["experiment=tiny", *overrides]), place="test")


@pytest.fixture(scope="module")
def two() -> Params:
    return params_of(*SSV2, "benchmarks/retrieval=standard", "segmentation=embedded")


def test_settings_on_a_further_data_set_are_as_if_it_were_the_only_one(two: Params) -> None:
    """Catches a benchmark that reads the labels, clips or fine-tuned labels of the other one."""
    on_it = two.on("ssv2")
    assert two.data_sets == ("synthetic_tiny", "ssv2")
    assert on_it.data.labels == ("template",)
    assert (on_it.data.clip.frames, on_it.data.clip.size) == (8, 32)  # as the encoders take them
    assert on_it.evaluation.finetune is not None
    assert two.evaluation.finetune is not None
    assert two.evaluation.finetune.labels == ("motion",)
    assert on_it.evaluation.finetune.labels is None
    assert BENCHMARKS["retrieval"].runs(on_it) == list(two.runs)
    assert not BENCHMARKS["segmentation"].runs(on_it)
    assert two.on("synthetic_tiny") is two


def test_a_data_set_changes_no_job_on_another(two: Params) -> None:
    """Catches settings by which a new data set repeats what was done before."""
    alone = params_of("benchmarks/retrieval=standard")
    three = params_of(*SSV2, "+data@evaluation_data.k400=k400", "benchmarks/retrieval=standard")
    for stage in ("manifest", "index", "pretrain", "evaluate", "retrieve"):
        assert stages.settings(two, stage, "pixel") == stages.settings(alone, stage, "pixel")
        if stage != "pretrain":
            settings = [stages.settings(each.on("ssv2"), stage, "pixel") for each in (two, three)]
            assert settings[0] == settings[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation_data.ssv2.name=other", "give it the name of its key"),
        ("data.name=ssv2", "all runs are evaluated on it already"),
        ("evaluation_data.ssv2.clip.size=64", "clip has 8 frames of 64 pixels"),
        ("+evaluation_data.ssv2.benchmarks={severe:{}}", "names severe"),
        ("+evaluation_data.ssv2.benchmarks={retrieval:{runs:[]}}", "the same runs"),
        ("evaluation_data.ssv2.finetune_labels=[nothing]", "names nothing"),
    ],
)
def test_what_does_not_fit_is_refused(override: str, message: str) -> None:
    """Catches a further data set that fails hours later, or whose scores overwrite others."""
    with pytest.raises(UserError, match=message):
        params_of(*SSV2, "benchmarks/retrieval=standard", override)


def test_lists_are_short_for_overrides() -> None:
    """Catches an entry whose name is not that of its file, and an order that is not kept."""
    assert several.expanded(["data=[ssv2,lists/lips.csv,{mine: b.csv}]"]) == [
        *("data=ssv2", "+data@evaluation_data.lips=folder"),
        *("evaluation_data.lips.manifest=lists/lips.csv", "evaluation_data.lips.name=lips"),
        *("+data@evaluation_data.mine=folder", "evaluation_data.mine.manifest=b.csv"),
        "evaluation_data.mine.name=mine",
    ]
    assert several.expanded(["data=ssv2", "trainer.epochs=1"]) == ["data=ssv2", "trainer.epochs=1"]
    runs = several.expanded(["encoders=[a/sigma/model.safetensors,vit-b.pth]"])
    assert [run for run in runs if "weights" in run] == [
        "+runs.sigma.weights=a/sigma/model.safetensors",
        "+runs.vit-b.weights=vit-b.pth",
    ]
    with pytest.raises(UserError, match="two entries are called a"):
        several.expanded(["encoders=[x/a.pth,y/a.pth]"])


def test_each_encoder_has_the_model_and_clip_of_its_weights(tmp_path: Path) -> None:
    """Catches a second encoder that is given the input of the first."""
    tiny = params_of()
    files = []
    for name, frames, depth in (("short", 4, 1), ("long", 8, 2)):
        run = tiny.runs["pixel"]
        model = run.model.model_copy(update={"depth": depth})
        run = run.model_copy(update={"model": model})
        clip = tiny.data.clip.model_copy(update={"frames": frames})
        files.append(tmp_path / f"{name}.safetensors")
        hub.save(files[-1], sigma_model(model, run.objective, clip), run, clip)
    text = composition.compose(
        ["experiment=encoders", f"encoders=[{files[0]},{files[1]}]", "data=[synthetic_tiny,ssv2]"]
    )
    params = composition.parse(text, place="test")
    assert {name: run.model.depth for name, run in params.runs.items()} == {
        **{"random": 1, "short": 1, "long": 2}
    }
    for data in params.data_sets:
        frames = {run: params.on(data).of(run).data.clip.frames for run in params.runs}
        assert frames == {"random": 4, "short": 4, "long": 8}
    assert "clip" not in yaml.safe_load(text)["runs"]["short"]
    assert json_clip(params, "long") != json_clip(params, "short")


def json_clip(params: Params, run: str) -> str:
    return stages.settings(params.of(run), "evaluate", run)
