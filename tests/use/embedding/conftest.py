"""A small model of this project's pretraining, and a folder of good and bad videos."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.configuration.build import sigma_model
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Params
from pipeline.runtime import ffmpeg
from pipeline.weights import hub

FRAMES, HEIGHT, WIDTH, FPS = 20, 36, 48, 10
GOOD = ("a.mp4", "b.mp4", "sub/c.mp4")


def write_video(path: Path, seed: int) -> None:
    """Encode two seconds of moving noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH + FRAMES, 3), np.uint8)
    video = np.stack([noise[:, k : k + WIDTH] for k in range(FRAMES)])
    command = [ffmpeg.executable(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-", "-c:v", "libx264"]
    command += ["-threads", "1", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=video.tobytes(), check=True)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file none of whose parameters is as it was initialised."""
    params = Params.model_validate(yaml.safe_load(compose(["experiment=tiny"])))
    run = params.runs["sigma_mlp"]
    torch.manual_seed(0)
    model = sigma_model(run.model, run.objective, params.data.clip)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    hub.save(path, model, run, params.data.clip)
    return path


@pytest.fixture(scope="session")
def _videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(GOOD):
        write_video(folder / name, seed)
    (folder / "page.mp4").write_text("<!doctype html><p>404")
    (folder / "notes.txt").write_text("not a video's name")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


@pytest.fixture
def videos(_videos: Path, tmp_path: Path) -> Path:
    """Three good videos, and a web page that is called one; a copy of the test's own."""
    return Path(shutil.copytree(_videos, tmp_path / "videos"))
