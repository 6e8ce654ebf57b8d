"""The example script: from a folder of videos and a trained encoder to a classifier."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.data.shards.format import ClipEntry
from pipeline.runtime import ffmpeg
from pipeline.weights import hub

COLOURS = {"red": "0xc03030", "green": "0x30a040", "blue": "0x4040d0"}


@pytest.fixture(scope="module")
def script(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "finetune_folder", project / "examples" / "finetune_folder.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of each of three colours, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for number in range(5):
            source = (
                f"color={colour}:size=64x48:rate=8:duration=1.5,noise=alls=40:all_seed={number}"
            )
            command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", source]
            command += ["-threads", "1", str(folder / name / f"{number}.mp4")]
            subprocess.run(command, check=True)
    (folder / "red" / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder that is not trained: what is learned here is learned by the script."""
    text = composition.compose(["experiment=tiny"])
    params = composition.validate(yaml.safe_load(text), place="test")
    run = params.runs["sigma_mlp"]
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    hub.save(path, sigma_model(run.model, run.objective, params.data.clip), run, params.data.clip)
    return path


@pytest.mark.system
def test_it_learns_what_the_folders_say(
    script: ModuleType,
    weights: Path,
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Would catch labels of other clips, learning from test clips, a file that no one can read."""
    arguments = [
        str(weights),
        str(videos),
        "-o",
        str(tmp_path / "out"),
        "--epochs",
        "20",
        "--held-out",
        "0.4",
        "--threads",
        "1",
    ]
    assert script.main([*arguments, "--base-lr", "0.03"]) == 0
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    listed = {row["id"]: row for row in csv.DictReader((out / "videos.csv").open())}
    assert {row["id"] for row in rows} == {
        name for name, row in listed.items() if row["split"] == "test" and "broken" not in name
    }
    assert len(rows) == 6
    right = [row["true"] == row["predicted"] for row in rows]
    assert sum(right) >= 0.9 * len(right)
    assert f"top-1 on test clips: {sum(right) / len(right):.1%}" in capsys.readouterr().out

    model = hub.load(out / "model.safetensors")
    assert model.labels == ("blue", "green", "red")
    assert model.classifier is not None
    with torch.inference_mode():
        logits = model.classifier.head(model.embed(videos / "red" / "0.mp4"))
    assert model.labels[int(logits.argmax())] == "red"
    assert "broken" in (out / "data" / "finetuned" / "lost.csv").read_text(encoding="utf-8")


def test_predictions_are_no_formulas(script: ModuleType, tmp_path: Path) -> None:
    """Catches a folder's name that a spreadsheet computes."""
    entry = ClipEntry("a", Path("x.tar"), 0, 1, 1, 1.0, 1, 1, "test", {"label": "-1+2"})
    problem = script.Problem([], [entry], ["=1+1", "b"])
    script.write_predictions(tmp_path / "p.csv", problem, np.log(np.array([[0.75, 0.25]])))
    (row,) = csv.DictReader((tmp_path / "p.csv").open())
    assert list(row.values()) == ["a", "'-1+2", "'=1+1", "0.7500"]


def test_one_class_is_refused(
    script: ModuleType,
    weights: Path,
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Would catch a traceback where there is nothing to learn."""
    only = tmp_path / "only"
    only.mkdir()
    shutil.copytree(videos / "red", only / "red")
    status = script.main([str(weights), str(only), "-o", str(tmp_path / "out"), "--epochs", "1"])
    assert status == 2
    assert "at least two classes" in capsys.readouterr().err
