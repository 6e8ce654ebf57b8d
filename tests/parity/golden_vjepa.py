"""V-JEPA: block masks, a step with its averaged target, and the stretched schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Objective, Optimiser, Trainer
from pipeline.method.losses import L1Loss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.masks.blocks import BlockMask, Blocks
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import AveragedTarget
from pipeline.method.targets.averaged import AveragedEncoder
from pipeline.method.tubes import cut, least_counts, split_masks
from pipeline.runtime import precision
from pipeline.runtime.optimisers import StepValues, momenta, stretched_schedule
from pipeline.runtime.ranks import Ranks
from pipeline.training import engines
from pipeline.weights.formats import vjepa

from .golden import FEATURES, GRADIENT, Case, check_loss, checks, clip_settings, model_settings

SCHEDULE = 1e-12


def block_kinds(config: dict[str, Any]) -> tuple[Blocks, ...]:
    return tuple(
        Blocks(
            count=each["num_blocks"],
            area=tuple(each["spatial_scale"]),
            length=tuple(each["temporal_scale"]),
            aspect=tuple(each["aspect_ratio"]),
            seen_length=each["max_temporal_keep"],
            most_visible=each["max_keep"],
        )
        for each in config["mask_types"]
    )


@checks("vjepa_masks")
def masks(case: Case) -> None:
    """Sizes of the blocks, and which tubes of each clip remain after the cut, exactly."""
    inputs, outputs = case.tensors("inputs"), case.tensors("outputs")
    grid = tuple(case.config["grid"])
    sizes = outputs["block_sizes"].tolist()
    kinds = block_kinds(case.config)
    assert [
        list(blocks.size(grid, tuple(draws)))
        for blocks, draws in zip(kinds, inputs["draws"].tolist(), strict=True)
    ] == sizes
    each = [
        [blocks.mask(grid, tuple(size), places) for places in inputs[f"positions_{kind}"].numpy()]
        for kind, (blocks, size) in enumerate(zip(kinds, sizes, strict=True))
    ]
    drawn = torch.from_numpy(np.array(each)).transpose(0, 1)
    for kind, split in enumerate(split_masks(cut(drawn, least_counts(drawn)), len(kinds))):
        assert torch.equal(split.predicted, outputs[f"predicted_{kind}"])
        assert torch.equal(split.visible, outputs[f"encoded_{kind}"])


def build(case: Case) -> tuple[SigmaModel, Objective]:
    config = case.config
    model = model_settings(config).model_copy(
        update={
            "decoder_width": config["predictor_embed_dim"],
            "decoder_depth": config["predictor_depth"],
            "decoder_heads": config["num_heads"],
            "positions": "sincos_3d" if config["uniform_power"] else "sincos_3d_half_time",
            "projection_bias": True,
        }
    )
    objective = Objective(
        name="recorded",
        target=AveragedTarget(*config["ema"]),
        loss=L1Loss(config["loss_exponent"]),
        mask=BlockMask(block_kinds(config)),
    )
    network = sigma_model(model, objective, clip_settings(config)).eval()
    weights = case.tensors("weights")
    network.load_state_dict(vjepa("encoder").renamed(weights))
    load_target(network, weights)
    for name, positions in (
        ("encoder.pos_embed", network.encoder.positions),
        ("predictor.predictor_pos_embed", network.positions),
    ):
        torch.testing.assert_close(positions, weights[name][0], rtol=0, atol=1e-6)
    return network, objective


def load_target(network: SigmaModel, weights: dict[str, Tensor]) -> None:
    assert isinstance(network.target, AveragedEncoder)
    for name, average in network.target.weights.items():
        average.copy_(vjepa("target_encoder").renamed(weights)[name])


def masks_of(inputs: dict[str, Tensor], tubes: int) -> Tensor:
    kinds = sum(name.startswith("encoded_") for name in inputs)
    drawn = torch.zeros(len(inputs["videos"]), kinds, tubes, dtype=torch.uint8)
    for kind in range(kinds):
        drawn[:, kind].scatter_(1, inputs[f"encoded_{kind}"], int(VISIBLE))
        drawn[:, kind].scatter_(1, inputs[f"predicted_{kind}"], int(PREDICTED))
    return drawn


@checks("vjepa_step")
def step(case: Case) -> None:
    """Targets, predictions, losses, gradients, and all three networks after a step."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    model, objective = build(case)
    drawn = masks_of(inputs, model.grid.count)
    predictions = model(inputs["videos"], split_masks(drawn, model.mask_kinds))
    for kind, (prediction, loss) in enumerate(zip(predictions, outputs["losses"], strict=True)):
        for ours, theirs in (("targets", "target"), ("decoded", "prediction")):
            recorded = outputs[f"{theirs}_{kind}"]
            torch.testing.assert_close(
                getattr(prediction, ours), recorded, rtol=FEATURES, atol=FEATURES
            )
        value, _ = objective.loss(prediction, None)
        torch.testing.assert_close(value, loss, rtol=1e-5, atol=0)

    optimiser = Optimiser(
        base_lr=config["lr"],
        final_lr=config["final_lr"],
        warmup_lr=config["start_lr"],
        betas=config["adam_betas"],
        eps=config["adam_eps"],
        weight_decay=config["weight_decay"],
        decay_mask_token=True,
    )
    fp32 = precision.choose("fp32", torch.device("cpu"))
    engine = engines.build(model, trainer(optimiser), Ranks(), fp32)
    engine.begin_step()
    check_loss(case, masked_video_loss(model, inputs["videos"], drawn, objective.loss)[0])
    recorded = vjepa("encoder").renamed(case.tensors("gradients"))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        expected = recorded.pop(name)
        assert (parameter.grad - expected).norm() <= GRADIENT * expected.norm(), name
    assert not recorded

    rate = config["lr_used"]
    engine.step(StepValues(rate, config["weight_decay_used"], config["momentum_used"]))
    after = case.tensors("weights_after")
    averaged = vjepa("target_encoder").renamed(after)
    # Steps of gradients near Adam's epsilon are rounding.
    expected_after = vjepa("encoder").renamed(after)
    for name, parameter in model.named_parameters():
        assert (parameter - expected_after[name]).abs().max() <= 0.01 * rate, name
    for name, average in engine.target_weights().items():
        assert (average - averaged[name]).abs().max() <= 0.01 * rate, name


def trainer(optimiser: Optimiser) -> Trainer:
    return Trainer(
        name="recorded",
        engine="single",
        seed=0,
        epochs=1,
        warmup_epochs=0,
        batch_size=2,
        accumulation=1,
        precision="fp32",
        threads=1,
        workers=0,
        cache_mib=0,
        optimiser=optimiser,
        log_every=1,
        checkpoint_every=1,
        keep_checkpoints=1,
    )


@checks("vjepa_schedules")
def schedules(case: Case) -> None:
    """Learning rate, weight decay and momentum of every step, in float64."""
    config, outputs = case.config, case.tensors("outputs")
    each, steps, stretch = (
        config["iterations_per_epoch"],
        config["steps"],
        config["schedule_stretch"],
    )
    ours = {
        "lr": stretched_schedule(
            config["lr"],
            config["final_lr"],
            steps=steps,
            warmup=int(config["warmup_epochs"] * each),
            start=config["start_lr"],
            stretch=stretch,
        ),
        "weight_decay": stretched_schedule(
            config["weight_decay"], config["final_weight_decay"], steps=steps, stretch=stretch
        ),
        "momentum": momenta(*config["ema"], steps=steps, stretch=stretch),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, outputs[name].numpy(), rtol=0, atol=SCHEDULE)
