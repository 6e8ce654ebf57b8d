"""Evaluation on an accelerator, of which there need be none (`tests/fake_accelerator.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from pipeline.configuration.build import encoder
from pipeline.configuration.composition import compose
from pipeline.configuration.schema import Clip, Finetune, Model, Params, Training
from pipeline.evaluation import finetune
from pipeline.evaluation.finetune import Learner
from pipeline.evaluation.finetune_loss import Kind, Targets
from pipeline.evaluation.recognition import heads
from pipeline.evaluation.recognition.attentive import AttentiveHead
from pipeline.evaluation.recognition.task import Labelled
from pipeline.evaluation.rows import answers, inference
from pipeline.evaluation.training_clips import TrainingBatch
from pipeline.method.pixels import to_device
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.optimisers import parameter_groups, solver
from pipeline.runtime.precision import Precision
from pipeline.weights.classifier import Classifier
from tests.fake_accelerator import CUDA, accelerator, move

from .test_finetune import FULL, SETTINGS

CLIP = Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)


@pytest.fixture(scope="module")
def model() -> Model:
    params = Params.model_validate(yaml.safe_load(compose(["experiment=tiny"])))
    return params.runs["sigma_mlp"].model


def videos(clips: int) -> Tensor:
    return torch.randint(0, 256, (clips, CLIP.frames, CLIP.size, CLIP.size, 3), dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_rows_wait_for_no_accelerator(model: Model, kind: str) -> None:
    """Catches a wait within a batch, of features as of a fine-tuned network's answers."""
    network = encoder(model, CLIP) if kind == "encoder" else Classifier(model, CLIP, 5)
    with accelerator(network.eval()), inference(CUDA, 8):
        rows = answers(network, videos(6).unflatten(0, (3, 2)), 4, CUDA)
    assert rows.device == CUDA
    assert rows.shape[:2] == (3, 2)


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
@pytest.mark.parametrize(
    ("precision", "like"), [("fp32", "cuda"), ("bf16", "cuda"), ("fp32", "mps")]
)
def test_fine_tuning_waits_for_the_loss_alone(
    model: Model, kind: Kind, precision: str, like: str
) -> None:
    """Catches waits, mixed devices and constants in a step with all that changes its clips; and
    float64 on a device that has none."""
    from timm.utils.model_ema import ModelEmaV3

    changes: dict[str, Any] = {"augmentation": FULL, "precision": precision, "clip_grad": 1.0}
    settings: Finetune = SETTINGS.model_copy(update={**changes, "accumulation": 2})
    values = np.arange(8) % 3 if kind == "single" else np.eye(3)[np.arange(8) % 3]
    network = Classifier(model, CLIP, 3)
    average = ModelEmaV3(network, decay=0.9, use_warmup=True)
    with accelerator(network, average, may_wait=[finetune._step], like=like) as device:
        groups = parameter_groups(network, 0.05, layer_decay=0.75, depth=model.depth)
        number_format = Precision(precision, CUDA.type)
        learner = Learner(network, solver("adamw", groups), average, CUDA, number_format)
        batch = TrainingBatch(0, to_device(videos(8), CUDA), torch.arange(8))
        finetune._step(learner, batch, Targets(kind, values, 3), settings, 1e-3)
    assert device.waits == ["finetune._step"]


@pytest.mark.parametrize("head", ["linear", "attentive"])
def test_heads_wait_for_their_answers_alone(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the same of heads on frozen features; only what a head answers is waited for."""
    monkeypatch.setattr(heads, "choose_device", lambda: CUDA)
    monkeypatch.setattr(torch.nn.ModuleList, "to", lambda own, _: move(own))
    attentive = head == "attentive"
    shape = (6, 2, 5, 16) if attentive else (6, 2, 16)
    ids = np.array(list("abcdef"))
    clips = Labelled(ids, np.zeros((6, 2, 16), np.float32), np.array(["x", "y"] * 3))
    inputs = heads.Arrays.of((ids, np.zeros(shape, np.float32)))

    def build(classes: int) -> torch.nn.Module:
        if attentive:
            return AttentiveHead(16, classes, 2, 2.0)
        return heads.LinearHead(16, classes, batch_norm=True)

    settings = Training(
        solver="adamw",
        rates=(1e-3, 1e-2),
        epochs=2,
        warmup_epochs=0,
        batch_size=4,
        weight_decay=0.01,
        seed=0,
    )
    probe = heads.HeadTrainer(settings, build, inputs, Resumption(tmp_path))
    with accelerator(may_wait=[heads.HeadTrainer.outputs]) as device:
        trained = probe.train(clips, np.array(["x", "y"]), [1e-3, 1e-2], "choice")
        assert not device.waits
        probe.scores(trained[0], clips)
    assert set(device.waits) == {"heads.outputs"}
