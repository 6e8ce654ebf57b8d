"""Video encoders of other runs and checkpoints, handed to the targets that are their features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.method.frozen_network import check_digest, tensors_digest
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import ClustersTarget, EncoderTarget, Target
from pipeline.method.targets.clusters import ClusterTargets
from pipeline.method.targets.feature_networks import ClipFeatures
from pipeline.method.targets.frozen import VideoFeatures
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder
from pipeline.weights import hub

PLACE = "objective.target"


def hand_over(
    model: SigmaModel, targets: Iterable[Target], weights_of_run: Callable[[str], Path]
) -> None:
    """Give each target of a model that is of a video encoder this encoder.

    `targets` are the settings of the model's targets, in its order. Raises `UserError` where the
    weights are not there, not those that are named, or of another geometry.
    """
    for settings, network in zip(targets, model.targets, strict=True):
        if isinstance(settings, ClustersTarget) and isinstance(network, ClusterTargets):
            settings, network = settings.features, network.features
        if isinstance(settings, EncoderTarget) and isinstance(network, VideoFeatures):
            path = weights_of_run(settings.run) if settings.run else Path(settings.weights or "")
            _use(network, settings, path, model.grid)


def _use(network: VideoFeatures, settings: EncoderTarget, path: Path, grid: TubeGrid) -> None:
    if not path.exists():
        raise UserError(f"no such file: {path}", place=f"{PLACE}.weights")
    check_digest(path, settings.sha256)
    with torch.random.fork_rng(devices=[]):  # the model's own weights do not depend on this
        encoder = hub.load(str(path)).encoder
    _check(encoder, settings, path, grid)
    encoder.use_grid(grid)
    network.digest = tensors_digest(encoder.state_dict())
    network.use(ClipFeatures(encoder, settings))


def _check(encoder: Encoder, settings: EncoderTarget, path: Path, grid: TubeGrid) -> None:
    depth = len(encoder.blocks)
    problem, key = "", ""
    if encoder.grid.tube != grid.tube:
        theirs, ours = ("x".join(map(str, each)) for each in (encoder.grid.tube, grid.tube))
        problem, key = f"has tubes of {theirs}, and the model of {ours}", "weights"
    elif encoder.grid.background != grid.background:
        theirs, ours = (each or "null" for each in (encoder.grid.background, grid.background))
        problem = f"has learned with model.background={theirs}, and the model has {ours}: both see"
        problem, key = f"{problem} the same clips", "weights"
    elif encoder.width != settings.width:
        problem, key = f"is {encoder.width} wide, not {settings.width}", "width"
    elif any(not -depth <= layer < depth for layer in settings.layers):
        problem, key = f"has no blocks {settings.layers}, but {depth}", "layers"
    if problem:
        raise UserError(f"the encoder of {path} {problem}", place=f"{PLACE}.{key}")
