"""The one list of stages: what each reads and consists of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.configuration import code, composition, stages
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES


@pytest.fixture(scope="module")
def demo() -> Params:
    return composition.validate(yaml.safe_load(composition.compose([])), place="")


def test_modules_without_effect_exist() -> None:
    """Catches a module that was renamed, and whose messages decide results again."""
    assert list(code.WITHOUT_EFFECT) == sorted(code.WITHOUT_EFFECT)
    for module, reason in code.WITHOUT_EFFECT.items():
        assert code.find(module), module
        assert reason, module


def test_sources_are_those_of_the_stage_alone() -> None:
    """Catches a closure so wide that every edit reruns everything."""
    beyond = [f for f in stages.sources("decode") if not f.startswith("pipeline/data/decode/")]
    assert beyond == ["pipeline/data/records.py", "pipeline/runtime/ffmpeg.py"]
    assert "pipeline/method/sinkhorn.py" in stages.sources("pretrain")
    assert not any("/evaluation/" in file for file in stages.sources("pretrain"))
    assert not {f"pipeline/training/{n}.py" for n in ("messages", "launch", "checkpoints")} & set(
        stages.sources("pretrain")
    )
    assert not any("/training/loop" in file for file in stages.sources("evaluate"))
    assert not any("/engines/" in file for file in stages.sources("evaluate"))
    assert any(file.endswith("report.html") for file in stages.sources("report"))


def test_code_hash_changes_with_the_sources_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a hash that misses a module two imports away, or that sees other stages' code, or
    what no result depends on: a comment, a docstring, a module of messages."""
    files = {
        "__init__.py": "",
        "data/__init__.py": "",
        "data/fetch/__init__.py": "",
        "data/decode/__init__.py": "",
        "data/decode/decode_stage.py": "from pipeline.data.fetch import near\n",
        "data/fetch/near.py": "def late():\n    import pipeline.data.fetch.far\n",
        "data/fetch/far.py": "x = 1\n",
        "data/fetch/other.py": "x = 1\n",
        "errors.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "pipeline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(code, "PROJECT", tmp_path)

    def edited(name: str, text: str) -> str:
        (tmp_path / "pipeline" / name).write_text(text, encoding="utf-8")
        code.forget()
        return stages.code_sha256("decode")

    try:
        code.forget()
        before = stages.code_sha256("decode")
        assert edited("data/fetch/other.py", "x = 2\n") == before
        assert edited("errors.py", "x = 2\n") == before
        assert edited("data/fetch/far.py", '"""Says."""\n\nx = 1  # so far\n') == before
        assert edited("data/fetch/far.py", "x = 2\n") != before
        assert edited("data/fetch/far.py", "x = 1\n") == before
    finally:
        code.forget()


def test_dvc_yaml_has_the_same_params(project: Path) -> None:
    """Catches a dvc.yaml that forgot a stage's setting: `make deps` renews it."""
    command = [
        sys.executable,
        "-c",
        "import mirror\n"
        "params = mirror.composition.load()\n"
        "assert mirror.kept(open('.dvcignore').read(), params) == open('.dvcignore').read()\n"
        "print(mirror.mirrored(open('dvc.yaml').read(), params), end='')",
    ]
    environment = {"PYTHONPATH": str(project / "workflow"), "PATH": ""}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    text = (project / "dvc.yaml").read_text(encoding="utf-8")
    assert done.stdout == text, "run: make deps"
    written = yaml.safe_load(text)["stages"]
    assert written.pop("code")["deps"] == ["pipeline"]
    further = [name for name in written if name.startswith("further_")]
    on_further = [
        stage for stage in STAGES.values() if getattr(stage.benchmark, "on_further_data", 0)
    ]
    assert further == ["further_data", *(f"further_{s.benchmark.stage}" for s in on_further)]
    for name in further:
        written.pop(name)
    assert list(written) == list(STAGES)
    for stage, body in written.items():  # what mirrored() is to have done, by another way
        run = "${item.run}" if "run" in STAGES[stage].per else ""
        *keys, meaning = body["params"]
        assert keys == [key.replace("RUN", run) for key in STAGES[stage].reads]
        needs = ["needs.${item.run}"] if stage == "pretrain" else []
        assert meaning == {"workflow/code.yaml": [stage, *needs]}
        assert f"--allowed-rules {stage} " in body["cmd"]
        assert f"--forcerun {stage} " in body["cmd"]
        outs = [*body["outs"], *body.get("metrics", []), *body.get("plots", [])]
        assert all(next(iter(out.values()))["persist"] for out in outs)


@pytest.mark.parametrize("stage", STAGES)
def test_settings_are_one_string_by_value(stage: str, demo: Params) -> None:
    """Catches settings that Snakemake would compare without names, or by the order of keys."""
    shown = stages.settings(demo, stage, "pixel")
    assert list(json.loads(shown)) == sorted(
        key.replace("RUN", "pixel") for key in STAGES[stage].reads
    )
    again = Params.model_validate(json.loads(json.dumps(demo.model_dump(mode="json"))))
    assert stages.settings(again, stage, "pixel") == shown


def test_settings_of_a_run_are_its_own(demo: Params) -> None:
    """Catches runs that rerun each other: a change of one must leave the settings of another."""
    changed = composition.validate(
        yaml.safe_load(composition.compose(["runs.pixel.objective.mask.ratio=0.5"])), place=""
    )
    for stage in ("pretrain", "evaluate"):
        assert stages.settings(changed, stage, "random") == stages.settings(demo, stage, "random")
    assert stages.settings(changed, "pretrain", "pixel") != stages.settings(
        demo, "pretrain", "pixel"
    )


def test_a_stage_gets_no_more_than_it_reads(demo: Params) -> None:
    """Catches a stage that reads a setting whose change would not run it again."""
    given = stages.restrict(demo, "pretrain", "pixel")
    assert given.runs["pixel"] == demo.runs["pixel"]
    assert given.data.clip == demo.data.clip
    for read in (
        lambda: given.evaluation,
        lambda: given.data.decode,
        lambda: given.runs["random"],
        lambda: given.data.labels,
    ):
        with pytest.raises((AttributeError, KeyError)):
            read()
    assert demo.data.labels  # the original is as it was


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_removes_what_its_killed_predecessors_left(stage: str, project: Path) -> None:
    """Catches a stage whose temporary files stay for ever."""
    scores = STAGES[stage].module.startswith("pipeline.evaluation.")
    module = "pipeline.evaluation.stage" if scores else STAGES[stage].module
    text = (project / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    assert "    remove_leftovers(" in text
