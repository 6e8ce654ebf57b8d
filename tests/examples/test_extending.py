"""The worked examples of docs/extending.md: taken from the page, applied to a copy, and run."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.configuration import composition
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage
from pipeline.data.shards import index_stage, shard_stage
from pipeline.runtime import ffmpeg

from ..workflow.workspace import Workspace, checkout

FILE = re.compile(r"`([\w/.]+)`:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)
PATCH = re.compile(r"```diff\n(.*?)```", re.DOTALL)
SMALL = (
    "data=synthetic_tiny",
    "data.chunks=1",
    "model.width=32",
    "model.depth=1",
    "model.heads=2",
    "model.decoder_width=16",
    "model.decoder_depth=1",
    "model.decoder_heads=1",
    "trainer.epochs=4",
    "trainer.warmup_epochs=1",
    "trainer.batch_size=16",
    "trainer.log_every=1",
)


def example(project: Path, title: str, folder: Path) -> Workspace:
    """Apply the section of this title to a copy of the project; run the test that it has."""
    workspace = checkout(project, folder)
    tests = apply_section(project, title, folder)
    workspace.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    return workspace


def apply_section(project: Path, title: str, folder: Path) -> list[str]:
    """Apply the section of this title to a copy of the project; return the test that it has."""
    page = (project / "docs" / "extending.md").read_text(encoding="utf-8")
    (section,) = (part for part in page.split("\n## ") if part.startswith(title))
    for patch in PATCH.findall(section):
        subprocess.run(
            ["git", "apply", "-C1", "-"],
            cwd=folder,
            input=patch,
            text=True,
            check=True,
            env={"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        )
    tests = []
    for name, text in FILE.findall(section):
        path = folder / name
        assert not path.exists(), f"{name} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        tests += [name] if name.startswith("tests/") else []
    assert len(tests) == 1
    return tests


def test_every_block_of_the_page_is_taken(project: Path) -> None:
    """Would catch an example that the patterns above pass over."""
    page = (project / "docs" / "extending.md").read_text(encoding="utf-8")
    assert len(FILE.findall(page)) + len(PATCH.findall(page)) == page.count("```") / 2


@pytest.mark.system
def test_a_data_set(project: Path, tmp_path: Path) -> None:
    """Would catch a reader that cannot be called, or a group that does not compose."""
    workspace = example(project, "A data set", tmp_path / "project")
    labels, videos = workspace.folder / "labels", workspace.folder / "videos"
    labels.mkdir()
    videos.mkdir()
    (labels / "train.txt").write_text("0001;waving\n0002;nodding\n", encoding="utf-8")
    (labels / "test.txt").write_text("0003;waving\n", encoding="utf-8")
    for number in (1, 2, 3):
        source = f"testsrc2=size=64x48:rate=10:duration={number}"
        command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", source]
        subprocess.run([*command, str(videos / f"000{number}.mp4")], check=True)
    pipeline = (sys.executable, "-m", "pipeline")
    workspace.run(
        *pipeline, "manifest", "gestures", "--annotations", "labels", "--videos", "videos"
    )
    workspace.run(*pipeline, "compose", "experiment=demo", "data=gestures", "name=gestures")
    workspace.snakemake("data")
    index = json.loads((workspace.folder / "data/gestures/shards/index.json").read_text())
    assert index["census"] == {"ok": 3}
    assert index["splits"] == {"train": 2, "test": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `data` of the tiny data set, made by the stages."""
    text = composition.compose(["experiment=one", *SMALL])
    params = composition.validate(yaml.safe_load(text), place="test")
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        manifest_stage.run(params)
        for stage in (download_stage, decode_stage, shard_stage):
            stage.run(params, 0)
        index_stage.run(params)
    return folder / "data"


def losses(workspace: Workspace, data: Path, name: str, *chosen: str) -> Iterator[float]:
    """Pretrain with a plugin and what it brings; yield the loss of each step."""
    (workspace.folder / "data").symlink_to(data)
    pipeline = (sys.executable, "-m", "pipeline")
    overrides = ("experiment=one", f"name={name}", f"plugins=[plugins.{name}]", *chosen)
    workspace.run(*pipeline, "compose", *overrides, *SMALL)
    workspace.run(*pipeline, "pretrain", "--run", "encoder")
    log = workspace.folder / "results" / name / "runs" / "encoder" / "metrics.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines():
        loss = json.loads(line)["loss"]
        if loss is not None:  # else the encoder was evaluated before the first step
            yield loss


@pytest.mark.system
def test_a_target(project: Path, data: Path, tmp_path: Path) -> None:
    """Would catch a target that the model does not take, or that cannot be learned."""
    workspace = example(project, "A target", tmp_path / "project")
    found = list(losses(workspace, data, "hog", "objective=sigma_hog"))
    assert len(found) == 12
    assert found[-1] < found[0]


@pytest.mark.system
def test_a_loss(project: Path, data: Path, tmp_path: Path) -> None:
    """Would catch a loss that is not reached, or a rule for losses that has a hole."""
    workspace = example(project, "A loss", tmp_path / "project")
    chosen = ("objective=pixel_demo", "objective/loss=log_cosh")
    found = list(losses(workspace, data, "log_cosh", *chosen))
    assert all(loss >= 0 for loss in found)
    assert statistics.mean(found[-4:]) < statistics.mean(found[:4])
    pipeline = (sys.executable, "-m", "pipeline")
    refused = workspace.run(
        *pipeline,
        "compose",
        "experiment=one",
        "plugins=[plugins.log_cosh]",
        "objective=sigma_mlp_demo",
        "objective/loss=log_cosh",
        check=False,
    )
    assert refused.returncode == 2
    assert "loss 'log_cosh' with a jointly trained target 'mlp' collapses" in refused.stdout


@pytest.mark.system
def test_a_benchmark_and_a_target_go_through_the_chain(project: Path, tmp_path: Path) -> None:
    """Would catch a part of the chain that knows the built-in benchmarks alone, one that has
    nothing to do and is started, and a plugin whose code does not count."""
    workspace = example(project, "A target", tmp_path / "project")
    apply_section(project, "A benchmark", workspace.folder)
    pipeline = (sys.executable, "-m", "pipeline")
    overrides = ("experiment=one", "name=toy", "plugins=[plugins.hog,plugins.mirroring]")
    overrides += ("objective=sigma_hog", "segmentation=none", "severe=none", "evaluation=frozen")
    workspace.run(*pipeline, "compose", *overrides, "+benchmarks.mirroring={clips: 8}", *SMALL)
    said = workspace.snakemake().stdout
    assert "[mirror encoder] cosine" in said
    results = workspace.folder / "results" / "toy"
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert -1 <= metrics["encoder"]["mirroring"]["cosine"] <= 1
    assert "severe" not in metrics["encoder"]
    files = {path.name for path in (results / "runs" / "encoder").glob("*.json")}
    assert files == {"pretrain.json", "evaluation.json", "mirroring.json"}
    assert "Mirroring" in (results / "report.html").read_text(encoding="utf-8")
    traced = workspace.run(*pipeline, "trace", str(results / "evaluation.json"), "--quick").stdout
    assert "mirroring of run encoder" in traced
    workspace.run(sys.executable, "workflow/mirror.py")
    workspace.run("git", "init", "--quiet")
    listed = workspace.run(sys.executable, "-m", "dvc", "stage", "list", "--name-only").stdout
    by_run = {name for name in listed.split() if name.endswith("@encoder")}
    assert by_run == {"pretrain@encoder", "evaluate@encoder", "mirror@encoder"}
    plugin = workspace.folder / "plugins" / "mirroring.py"
    plugin.write_text(plugin.read_text(encoding="utf-8") + "\nX = 1\n", encoding="utf-8")
    assert workspace.planned() == {"mirror": 1, "report": 1}
