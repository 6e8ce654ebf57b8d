"""A project folder with a small sharded data set and `params.yaml`, to train in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data import synthetic
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.data.shards import index_stage, shard_stage

OVERRIDES = ("experiment=tiny", "data.chunks=1", "data.synthetic.train=24")
Compose = Callable[..., Params]


def few(number: int) -> str:
    """The column `source`: six of the 24 clips are `few`, the others `7`."""
    return "few" if number % 4 == 0 else "7"


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/`: 24 synthetic clips, packed and listed by the stages that do so."""
    folder = tmp_path_factory.mktemp("project")
    params = composition.validate(yaml.safe_load(composition.compose(OVERRIDES)), place="test")
    settings = params.data.synthetic
    assert settings is not None
    rows = {row["id"]: row for row in synthetic.rows(settings) if row["split"] == "train"}
    clips = [
        ClipRecord(
            id=name,
            outcome=Outcome.OK,
            file=str(path),
            frames=settings.frames,
            fps=settings.fps,
            width=settings.size,
            height=settings.size,
            split="train",
            labels={"source": few(number)},
        )
        for number, (name, path) in enumerate(
            synthetic.write_videos(settings, rows.values(), folder / "videos")
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ChunkManifest(stage="decode", chunk=0, clips=clips).write(
            DataLayout(params.data.name).decoded(0)
        )
        shard_stage.run(params, 0)
        index_stage.run(params)
    return folder


@pytest.fixture
def workspace(data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data set in a folder of the test's own, which is the working directory."""
    shutil.copytree(data_set / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compose(workspace: Path) -> Compose:
    """Write `params.yaml` of experiment tiny with these overrides; return it, checked."""

    def write(*overrides: str) -> Params:
        text = composition.compose([*OVERRIDES, *overrides])
        (workspace / "params.yaml").write_text(text, encoding="utf-8")
        return composition.load(workspace / "params.yaml")

    return write


@pytest.fixture(autouse=True)
def _threads() -> object:
    """Give later tests the number of threads that they began with."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
