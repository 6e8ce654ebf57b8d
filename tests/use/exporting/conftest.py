"""Checkpoints of several origins, in a project folder of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.configuration.build import sigma_model
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Params
from pipeline.method.targets import AUTHORS_STABILISER
from pipeline.runtime.files import sha256_file, write_json
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier

CLASSES = 3


@pytest.fixture(scope="session")
def _checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    theirs = (
        f"runs.pixel.objective.target.stabiliser={AUTHORS_STABILISER}"  # Transformers has no other
    )
    params = Params.model_validate(yaml.safe_load(compose(["experiment=tiny", theirs])))
    clip = params.data.clip
    torch.manual_seed(0)
    for name in ("sigma_mlp", "pixel"):
        run = params.runs[name]
        model = shaken(sigma_model(run.model, run.objective, clip))
        hub.save(folder / name / "model.safetensors", model, run, clip)
    classifier = shaken(Classifier(params.runs["pixel"].model, clip, CLASSES))
    state = {hub.official_name(classifier, n): t for n, t in classifier.state_dict().items()}
    arguments = argparse.Namespace(
        num_frames=clip.frames, input_size=clip.size, sampling_rate=clip.stride
    )
    torch.save({"module": state, "args": arguments}, folder / "finetuned.pt")
    return folder


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter, biases too, a value that is not its initial one."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return module.eval()


@pytest.fixture
def checkpoints(_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sigma_mlp` and `pixel` of this project's pretraining, and an official `finetuned.pt`."""
    monkeypatch.chdir(tmp_path)
    return _checkpoints


@pytest.fixture
def results(_checkpoints: Path, tmp_path: Path) -> Path:
    """A run's folder: its weights, and what the stages wrote of them."""
    folder = tmp_path / "run"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes((_checkpoints / "sigma_mlp" / "model.safetensors").read_bytes())
    sha256 = sha256_file(weights)
    run, clip = hub.read_config(weights)
    write_json(
        folder / "pretrain.json",
        {
            "model_sha256": sha256,
            "index_sha256": "ab" * 32,
            "run": "sigma_mlp",
            "experiment": "tiny",
            "clips": 48,
            "epochs": 2,
            "steps": 6,
            "final_loss": 13.5,
            "parameters": 210192,
            "encoder_parameters": 25056,
            "seconds": 1.5,
            "clip": clip.model_dump(mode="json"),
            "configuration": run.model_dump(mode="json"),
        },
    )
    score = {"label": "motion", "probe": "linear", "top1": 0.25, "scored": 23, "of": 24}
    write_json(
        folder / "evaluation.json",
        {
            "inputs": {"weights": sha256},
            "census": {"ok": 86, "corrupt": 2},
            "scores": [score],
            "provenance": {"code": {"revision": "0123abc"}},
        },
    )
    return folder
