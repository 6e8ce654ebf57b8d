"""Frozen image transformers of timm, with weights from a file or timm's hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.method.frozen_network import check_digest, tensors_digest
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.feature_networks import PatchFeatures
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.tubes import TubeGrid


def frozen_features(settings: FrozenTarget, grid: TubeGrid, *, load: bool = True) -> FrozenFeatures:
    """Build the target of `settings`; `load=False` leaves out the network, its weights and files.

    Raises `UserError` for an unknown name, a wrong digest, or weights that do not fit.
    """
    import timm  # takes seconds, which other targets need not spend

    known: bool = timm.is_model(settings.model)
    if not known:
        raise UserError(
            f"timm knows no model {settings.model!r}",
            place="objective.target.model",
            remedy="list them with timm.list_models('*dino*')",
        )
    try:
        with torch.device("meta"):
            shape = _create(settings, pretrained=False)
    except TypeError as error:  # other families of models have no `dynamic_img_size`
        raise UserError(
            f"{settings.model} is not a vision transformer, so it has no features of patches",
            place="objective.target.model",
            remedy="list the fitting ones with timm.list_models('vit_*dino*')",
        ) from error
    width, layers = shape.num_features, len(settings.layers)
    if settings.projection:
        width = _head_width(shape, settings)
    target = FrozenFeatures(layers * width, grid, layers=layers, normalise=settings.normalise)
    if load:
        with torch.random.fork_rng(devices=[]):  # the model's own weights do not depend on this
            network = _pretrained(settings)
        target.digest = tensors_digest(network.state_dict())
        target.use(prepared(network, settings, grid))
    target.own_stream = settings.own_stream
    return target


def prepared(network: nn.Module, settings: FrozenTarget, grid: TubeGrid) -> PatchFeatures:
    """A timm network as a map to features, in the precision and the form that `settings` ask."""
    if settings.precision == "bf16":
        network = network.to(torch.bfloat16)
    features = PatchFeatures(network, grid, settings)
    if settings.compile:
        features.compile()
    return features


def _create(settings: FrozenTarget, *, pretrained: bool) -> Any:
    import timm

    head: dict[str, Any] = {} if settings.projection else {"num_classes": 0}
    return timm.create_model(settings.model, pretrained=pretrained, dynamic_img_size=True, **head)


def _head_width(network: Any, settings: FrozenTarget) -> int:
    if not isinstance(network.head, nn.Linear):
        raise UserError(
            f"{settings.model} has no head that its features could be projected by",
            place="objective.target.projection",
            remedy="choose a model of images and texts: timm.list_models('vit_*clip*')",
        )
    return network.head.out_features


def _pretrained(settings: FrozenTarget) -> nn.Module:
    if settings.weights is None:
        try:
            hub: nn.Module = _create(settings, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the weights of {settings.model} could not be fetched: {error}",
                place="objective.target.model",
                remedy="give a local safetensors file as objective.target.weights",
            ) from error
        return hub
    path = Path(settings.weights)
    if not path.is_file():
        raise UserError(f"no such file: {path}", place="objective.target.weights")
    check_digest(path, settings.sha256)
    network: nn.Module = _create(settings, pretrained=False)
    try:
        network.load_state_dict(under_timms_names(load_file(path), network))
    except (SafetensorError, RuntimeError) as error:
        problem = f"{path} does not fit {settings.model}: {error}"
        raise UserError(problem, place="objective.target.weights") from error
    return network


def under_timms_names(state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Return weights of an image network under timm's names: CLIP's image encoder has others.

    UMT keeps that with a convolution over tubes of one frame.
    """
    if "class_embedding" not in state:
        return state
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = {name: t.squeeze(2) if t.ndim == 5 else t for name, t in state.items()}
    named = {f"visual.{name}": tensor for name, tensor in state.items()}
    renamed: dict[str, Tensor] = checkpoint_filter_fn(named, network)
    return {name: tensor.contiguous() for name, tensor in renamed.items()}
