"""A small labelled data set, made by the real shard and index stages, and one untrained run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import restrict
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.data.shards import index_stage, shard_stage
from pipeline.evaluation import rows, stage
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.runtime import ffmpeg
from pipeline.runtime.files import read_json, sha256_file, write_json
from pipeline.weights import hub

RUN = "random"
VOLATILE = {"seconds", "provenance"}  # of what a stage writes
EMBEDDED = {"train": 8, "val": 0, "test": 6}  # clips of the embedded data set
SIZES = {"train": 24, "val": 9, "test": 12}
COLOURS = {"red": (200, 60, 60), "green": (60, 180, 60), "blue": (70, 70, 220)}
OVERRIDES = (
    "experiment=tiny",
    "evaluation=probes",
    "data.name=colours",
    "data.labels=[colour]",
    "data.chunks=1",
    "data.max_lost_share=0.2",
    "data.clip.frames=4",
    "data.clip.size=16",
    "evaluation.batch_size=7",
    "evaluation.knn.k=3",
)


@pytest.fixture(scope="session")
def params() -> Params:
    """The tiny experiment on the data set below."""
    text = composition.compose(OVERRIDES)
    return composition.validate(yaml.safe_load(text), place="test")


def write_video(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """Encode six frames of 32 x 20 pixels: one colour under strong noise, H.264."""
    noise = np.random.default_rng(seed).normal(0, 25, (6, 20, 32, 3))
    video = np.clip(noise + np.array(colour), 0, 255).astype(np.uint8)
    command = [ffmpeg.executable(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", "32x20", "-r", "8", "-i", "-", "-c:v", "libx264", "-crf", "18"]
    command += ["-threads", "1", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=video.tobytes(), check=True)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """A project folder with a data set of 45 clips, 2 lost ones, and a run that is not trained.

    Test clip `test-00` has no label.
    """
    folder = tmp_path_factory.mktemp("project")
    with contextlib.chdir(folder):
        layout = DataLayout(params.data.name)
        layout.clips(0).mkdir(parents=True)
        records = []
        for split, count in SIZES.items():
            for k in range(count):
                name = list(COLOURS)[k % 3]
                path = layout.clips(0) / f"{split}-{k:02d}.mp4"
                write_video(path, COLOURS[name], seed=len(records))
                labels = {} if path.stem == "test-00" else {"colour": name}
                record = ClipRecord(id=path.stem, outcome=Outcome.OK, file=str(path), frames=6)
                shape = {"fps": 8.0, "width": 32, "height": 20, "split": split, "labels": labels}
                records.append(record.model_copy(update=shape))
        for split in ("train", "test"):
            lost = {"outcome": Outcome.CORRUPT, "reason": "damaged", "stage": "decode"}
            records.append(ClipRecord(id=f"lost-{split}", split=split, **lost))
        ChunkManifest(stage="decode", chunk=0, clips=records).write(layout.decoded(0))
        shard_stage.run(params, 0)
        index_stage.run(params)
        save_untrained(params)
    return folder


def save_untrained(params: Params) -> None:
    """Write the weights and the manifest of the run that is not trained."""
    run = params.runs[RUN]
    torch.manual_seed(0)
    model = sigma_model(run.model, run.objective, params.data.clip)
    files = RunLayout(params.name, RUN)
    hub.save(files.weights, model, run, params.data.clip)
    write_json(files.pretrained, {"model_sha256": sha256_file(files.weights)})


@pytest.fixture
def workplace(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `built`, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def with_benchmark(params: Params, name: str, settings: dict[str, Any]) -> Params:
    """Return the experiment with this benchmark, and no other but the usual ones."""
    wanted = BENCHMARKS[name].settings.model_validate(settings)
    return params.model_copy(update={"benchmarks": {name: wanted}})


def scores_of(name: str, params: Params, run: str = RUN) -> dict[str, Any]:
    """Run a benchmark's stage with the settings that it declares to read, and no others.

    Returns what it writes, without what differs from one time to the next.
    """
    benchmark = BENCHMARKS[name]
    stage.run(benchmark, restrict(params, benchmark.stage, run), run)
    body: dict[str, Any] = read_json(RunLayout(params.name, run).result(name))
    return {key: value for key, value in body.items() if key not in VOLATILE}


@pytest.fixture
def score(workplace: Path, params: Params) -> Callable[..., dict[str, Any]]:
    """A function that scores the run by a benchmark with the given settings."""

    return lambda name, **settings: scores_of(name, with_benchmark(params, name, settings))


@pytest.fixture
def recognised(workplace: Path, params: Params) -> None:
    """Recognition has scored the run, and written its features."""
    stage.run(BENCHMARKS["evaluation"], restrict(params, "evaluate", RUN), RUN)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many clips features were computed, each time that they were."""
    counts: list[int] = []
    compute = rows.compute

    def counted(network: Any, clips: Any, *more: Any) -> Any:
        counts.append(len(clips.ids))
        return compute(network, clips, *more)

    monkeypatch.setattr(rows, "compute", counted)
    return counts


@pytest.fixture(scope="session")
def embedded_params() -> Params:
    """The tiny experiment with 14 clips of the embedded data set."""
    overrides = ["experiment=tiny", "data.chunks=1"]
    overrides += [f"data.synthetic.{split}={count}" for split, count in EMBEDDED.items()]
    overrides += ["severe.drawn.train=16", "severe.drawn.test=12"]
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="test")


@pytest.fixture(scope="session")
def embedded_built(tmp_path_factory: pytest.TempPathFactory, embedded_params: Params) -> Path:
    """A project folder with these clips, made by the real stages, and a run that is not trained."""
    folder, params = tmp_path_factory.mktemp("embedded"), embedded_params
    with contextlib.chdir(folder):
        manifest_stage.run(params)
        for stage in (download_stage, decode_stage, shard_stage):
            stage.run(params, 0)
        index_stage.run(params)
        save_untrained(params)
    return folder


@pytest.fixture
def embedded(embedded_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `embedded_built`, as the working directory."""
    folder = tmp_path / "embedded"
    shutil.copytree(embedded_built, folder)
    monkeypatch.chdir(folder)
    return folder
