"""A run's whole model, rebuilt from its file, and the error of its own predictions.

Shapes: b windows, T frames, C contexts, M predicted tubes, N tubes of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Run
from pipeline.errors import UserError
from pipeline.method.collectives import alone
from pipeline.method.losses import Loss
from pipeline.method.sigma import Prediction, SigmaModel
from pipeline.method.swapped_assignment import Assignments
from pipeline.method.targets.clusters import ClusterTargets
from pipeline.method.tubes import split_mask
from pipeline.weights import hub, teachers


class PredictionError(nn.Module):
    """The objective's loss on each window's last time steps, predicted from its first ones.

    Tubes are assigned to the nearest prototype: Sinkhorn's assignment would depend on what else is
    in the batch.
    """

    def __init__(self, model: SigmaModel, loss: Loss, contexts: Sequence[int]) -> None:
        """`contexts` are numbers of time steps that are seen."""
        super().__init__()
        self.model, self.loss, self.contexts = model, loss, tuple(contexts)

    def forward(self, videos: Tensor) -> Tensor:
        """Errors b,C of normalised windows b,3,T,H,W."""
        grid = self.model.grid
        time = torch.arange(grid.count) // (grid.height * grid.width)
        errors = []
        for context in self.contexts:
            mask = (time >= context).expand(len(videos), -1)
            predictions = self.model(videos, [split_mask(mask)])
            errors.append(torch.stack([self._error(predictions, k) for k in range(len(videos))]))
        return torch.stack(errors, dim=1)

    def _error(self, predictions: Sequence[Prediction], window: int) -> Tensor:
        """The weighted sum of all targets' losses on one window, a scalar."""
        total = predictions[0].decoded.new_zeros((), dtype=torch.float32)
        for each in predictions:
            decoded, targets = (part[window : window + 1] for part in each[:2])
            one = each._replace(decoded=decoded, targets=targets)
            total = total + each.weight * self.loss(one, alone, _nearest(one))[0]
        return total


def _nearest(prediction: Prediction) -> Assignments | None:
    """The prototype that is nearest to each tube; None where there are no prototypes."""
    decoded, targets = prediction.decoded_scores, prediction.target_scores
    if decoded is None or targets is None:
        return None
    return Assignments(decoded.argmax(-1).flatten(), targets.argmax(-1).flatten())


def context_steps(shares: Sequence[float], steps: int) -> list[int]:
    """Return how many of a window's time steps are seen in each context, in order, each once."""
    return sorted({min(max(1, round(share * steps)), steps - 1) for share in shares})


def reason_without(run: Run, time_steps: int) -> str:
    """Return why a run has no predictions of its own; empty where it has."""
    if run.weights is not None:
        return "its weights are an encoder's, which predicts nothing"
    if not run.trainer.epochs:
        return "it is not trained: it predicts at random"
    if run.objective.alignment is not None:
        return "its objective compares visible tubes, and predicts no hidden ones"
    if time_steps < 2:
        return "its clips are one tube long: nothing comes after what is seen"
    return ""


def whole_model(layout: RunLayout) -> SigmaModel:
    """Return the model with decoder and target networks, on the CPU and in evaluation mode.

    A moving average of the encoder stands at the encoder's weights in the file, which are the
    averaged ones.

    Raises:
        UserError: where weights of a frozen target are missing or not those it was trained with.
    """
    run, _ = hub.read_config(layout.weights)
    model = hub.load_pretraining(layout.weights, load_teacher=True)

    def weights_of(name: str) -> Path:
        return RunLayout(layout.experiment, name).weights

    teachers.hand_over(model, run.objective.all_targets, weights_of)
    for network in model.targets:
        if isinstance(network, ClusterTargets):
            network.use(_centroids(layout))
    model.normalise_prototypes()
    return model


def _centroids(layout: RunLayout) -> Tensor:
    if not layout.clusters.is_file():
        raise UserError(
            "the clusters that are this run's targets are not there",
            place=str(layout.clusters),
            remedy=f"python -m pipeline pretrain --run {layout.run}",
        )
    with safe_open(layout.clusters, framework="pt") as handle:
        centroids: Tensor = handle.get_tensor("centroids")
    return centroids
