"""From settings to the networks that they describe."""

from __future__ import annotations

from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.method.sigma import SigmaModel, Targets, WeightedTarget
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder, TransformerSize


def tube_grid(model: Model, clip: Clip) -> TubeGrid:
    """The grid of a clip as a model gets it. `UserError` where its tube does not divide it."""
    return TubeGrid.from_size(clip.frames, clip.size, clip.size, model.tube, model.background)


def encoder_size(model: Model) -> TransformerSize:
    """The size of the encoder."""
    return TransformerSize(
        model.width,
        model.depth,
        model.heads,
        model.mlp_ratio,
        model.drop_path,
        model.activation_checkpointing,
        model.positions,
        model.initialisation,
    )


def decoder_size(model: Model) -> TransformerSize:
    """The size of the decoder, which drops no paths."""
    return TransformerSize(
        model.decoder_width,
        model.decoder_depth,
        model.decoder_heads,
        model.mlp_ratio,
        recompute=model.activation_checkpointing,
        positions=model.positions,
        initialisation=model.initialisation,
        projection_bias=model.projection_bias,
    )


def encoder(model: Model, clip: Clip, *, final_norm: bool = True) -> Encoder:
    """An encoder with fresh weights; a network of the Transformers library keeps its last norm."""
    grid = tube_grid(model, clip)
    if model.network is None:
        return Encoder(encoder_size(model), grid, final_norm=final_norm)
    from pipeline.weights.network_encoder import NetworkEncoder

    network, normalisation = model.network, (model.network.mean, model.network.std)
    return NetworkEncoder(network.config, normalisation, grid, network.pooling)


def sigma_model(
    model: Model,
    objective: Objective,
    clip: Clip,
    *,
    load_target: bool = True,
    target: TargetNetwork | None = None,
    cls: type[SigmaModel] = SigmaModel,
) -> SigmaModel:
    """The model of a run with fresh weights; `target` takes the place of the objective's."""
    return cls(
        tube_grid(model, clip),
        encoder(model, clip) if model.network else encoder_size(model),
        decoder_size(model),
        _targets(objective) if target is None else target,
        prototypes=objective.loss.prototypes,
        mask=objective.mask,
        load_target=load_target,
    )


def _targets(objective: Objective) -> Targets:
    further = {
        name: WeightedTarget(each.target, each.weight) for name, each in objective.further.items()
    }
    alignment = objective.alignment.interval if objective.alignment else None
    return Targets(WeightedTarget(objective.target, objective.weight), further, alignment)
