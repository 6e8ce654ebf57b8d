"""SIGMA and VideoMAE: pretraining, fine-tuning, Sinkhorn, schedules and segmentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.configuration.build import sigma_model, tube_grid
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.evaluation.segmentation import metric as segmentation_metric
from pipeline.method import sinkhorn
from pipeline.method.losses import MseLoss, SinkhornLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import TubeMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import MlpTarget, PixelTarget
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.runtime.optimisers import parameter_groups, schedule
from pipeline.weights import hub
from pipeline.weights.classifier import Classifier

from . import golden

Q = 1e-6  # absolute
SCHEDULE = 1e-12


# --- pretraining ---------------------------------------------------------------------------


def objective_settings(config: dict[str, Any]) -> Objective:
    """The recorded objective. Where features were recorded, `build` replaces its target."""
    mlp = config["target"] == "mlp"
    target = (
        MlpTarget(kind="mlp", hidden=config["mlp_hidden"], width=config["output_dim"])
        if mlp
        else PixelTarget(kind="pixel")
    )
    sinkhorn = SinkhornLoss(
        prototypes=config["num_prototypes"],
        epsilon=config["sinkhorn_epsilon"],
        iterations=config["sinkhorn_iterations"],
        temperature=config["temperature"],
    )
    return Objective.model_construct(
        name="recorded",
        target=target,
        loss=sinkhorn if config["loss"] == "sinkhorn" else MseLoss(),
        mask=TubeMask(ratio=config["mask_ratio"]),
    )


def recorded_network(features: Tensor) -> Callable[[Tensor], Tensor]:
    """A frozen network that answers with the recorded features of its frames."""

    def network(frames: Tensor) -> Tensor:
        return features.reshape(len(frames), -1, features.shape[-1])

    return network


def build(case: golden.Case, inputs: dict[str, Tensor]) -> SigmaModel:
    config = case.config
    model, clip = golden.model_settings(config), golden.clip_settings(config)
    target = None
    if "features" in inputs:
        target = FrozenFeatures(config["output_dim"], tube_grid(model, clip))
        target.use(recorded_network(inputs["features"]))
    sigma = sigma_model(model, objective_settings(config), clip, target=target)
    weights = case.tensors("weights")
    if sigma.prototypes is None and "prototypes" in config.get("parameters_without_gradient", []):
        weights.pop("prototypes")  # the reference makes them for every loss
    hub.load_official(sigma, weights, place=case.folder.name)
    return sigma.eval()


@golden.checks("pretrain")
def pretraining(case: golden.Case) -> None:
    """Targets, predictions, scores, assignments, both losses and every gradient."""
    inputs, outputs = case.tensors("inputs"), case.tensors("outputs")
    objective = objective_settings(case.config)
    model = build(case, inputs)

    loss, diagnostics = masked_video_loss(model, inputs["videos"], inputs["mask"], objective.loss)
    assert all(torch.isfinite(value) for value in diagnostics.values())
    golden.check_loss(case, loss)
    golden.check_gradients(case, golden.gradients(model, partial(hub.official_name, model)))

    with torch.no_grad():
        prediction = model(inputs["videos"], inputs["mask"])
        labels = prediction.targets
        if case.config["target"] == "mlp":  # recorded before its projection
            torch.testing.assert_close(
                projected(model, outputs["target_labels"]), labels, rtol=0, atol=golden.FEATURES
            )
        else:
            torch.testing.assert_close(
                labels, outputs["target_labels"], rtol=1e-5, atol=golden.FEATURES
            )
    torch.testing.assert_close(
        prediction.decoded, outputs["prediction"], rtol=golden.FEATURES, atol=golden.FEATURES
    )
    if case.config["loss"] == "sinkhorn":
        torch.testing.assert_close(model.prototypes.data, outputs["normalized_prototypes"])
        check_branch("prediction", prediction.decoded_scores, outputs, objective.loss)
        check_branch("target", prediction.target_scores, outputs, objective.loss)


def projected(model: SigmaModel, labels: Tensor) -> Tensor:
    result: Tensor = model.target.network(labels)
    return result


def check_branch(
    branch: str, scores: Tensor, outputs: dict[str, Tensor], loss: SinkhornLoss
) -> None:
    """Our scores, and Sinkhorn on the recorded ones."""
    recorded = outputs[f"{branch}_scores"]
    torch.testing.assert_close(scores, recorded, rtol=0, atol=golden.FEATURES)
    check_sinkhorn(
        recorded.flatten(0, 1),
        outputs[f"{branch}_q"].flatten(0, 1),
        outputs[f"{branch}_assignment"].flatten(),
        loss.epsilon,
        loss.iterations,
    )


# --- the parts -----------------------------------------------------------------------------


def check_sinkhorn(
    scores: Tensor, q: Tensor, assignment: Tensor, epsilon: float, iterations: int
) -> None:
    ours = sinkhorn.transport(scores, epsilon, iterations)
    assert (ours - q).abs().max() <= Q
    first, second = q.topk(2, dim=1).values.T
    clear = first - second > Q
    assigned = sinkhorn.assign(scores, epsilon, iterations)
    assert torch.equal(assigned[clear], assignment[clear])
    # Where the recorded best two are equal within rounding, ours must be one of the best.
    chosen = q.gather(1, assigned[:, None]).squeeze(1)
    assert (first - chosen <= Q).all()


@golden.checks("sinkhorn")
def assignments(case: golden.Case) -> None:
    """The transport, and the assignment wherever it is not a tie."""
    outputs = case.tensors("outputs")
    config = case.config
    check_sinkhorn(
        case.tensors("inputs")["scores"],
        outputs["q"],
        outputs["assignment"],
        config["epsilon"],
        config["iterations"],
    )


@golden.checks("classify")
def classification(case: golden.Case) -> None:
    """The fine-tuning network's pooled features and logits, in evaluation mode."""
    config, outputs = case.config, case.tensors("outputs")
    network = Classifier(
        golden.model_settings(config), golden.clip_settings(config), config["num_classes"]
    )
    hub.load_official(network, case.tensors("weights"), place=case.folder.name)
    network.eval()
    videos = case.tensors("inputs")["videos"]
    with torch.no_grad():
        features, logits = network.features(videos), network(videos)
    torch.testing.assert_close(
        features, outputs["pooled_features"], rtol=1e-5, atol=golden.FEATURES
    )
    torch.testing.assert_close(logits, outputs["logits"], rtol=1e-5, atol=golden.FEATURES)


@golden.checks("schedule")
def learning_rates(case: golden.Case) -> None:
    """The learning rate of every optimiser step, in float64."""
    config = case.config
    values = schedule(
        config["base_value"],
        config["final_value"],
        epochs=config["epochs"],
        steps_per_epoch=config["iterations_per_epoch"],
        warmup_epochs=config.get("warmup_epochs", 0),
        start=config.get("start_warmup_value", 0.0),
    )
    recorded = case.tensors("outputs")["values"].numpy()
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, recorded, rtol=0, atol=SCHEDULE)


@golden.checks("layer_decay")
def layer_decay(case: golden.Case) -> None:
    """Each parameter's learning-rate scale and whether it decays, exactly."""
    config = case.config
    model = Model(
        name="recorded",
        tube=(2, 8, 8),
        width=8,
        depth=config["depth"],
        heads=2,
        mlp_ratio=4.0,
        decoder_width=8,
        decoder_depth=1,
        decoder_heads=2,
    )
    clip = Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)
    network = Classifier(model, clip, classes=3)
    groups = parameter_groups(
        network, weight_decay=1.0, layer_decay=config["layer_decay"], depth=config["depth"]
    )
    ours = {
        hub.official_name(network, name): {
            "lr_scale": group["lr_scale"],
            "weight_decay_multiplier": group["weight_decay"],
        }
        for group in groups
        for name in group["names"]
    }
    assert ours == config["groups"]


@golden.checks("segmentation_miou")
def segmentation_miou(case: golden.Case) -> None:
    """Per-clip scores of both ways to match segments with classes."""
    inputs = case.tensors("inputs")
    truth, prediction = inputs["ground_truth"].numpy(), inputs["prediction"].numpy()
    for matching, expected in case.config["expected"].items():
        per_clip = [
            segmentation_metric.mean_iou(t, p, matching=matching)
            for t, p in zip(truth, prediction, strict=True)
        ]
        np.testing.assert_allclose(per_clip, expected["per_clip"], rtol=0, atol=1e-9)
        assert np.mean(per_clip) == pytest.approx(expected["mean"], abs=1e-9)
