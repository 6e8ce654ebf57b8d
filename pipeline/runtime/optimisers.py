"""Learning-rate schedule and parameter groups of AdamW (paper, appendix; protocol of VideoMAE)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.configuration.schema import Optimiser

# Of this project's encoder, and of networks of the Transformers library.
BLOCK = re.compile(r"\b(?:blocks|layers?)\.(\d+)\.")
EMBEDDING = ("patch_embed", "learned", "pos_embed", "cls_token", "reg_token", "norm_pre")
UNDECAYED = ("mask_token",)  # beside biases and vectors; prototypes do decay


class StepValues(NamedTuple):
    """What the schedules give to one optimiser step."""

    rate: float  # learning rate
    weight_decay: float | None = None  # of what decays; None: as it was built with
    momentum: float = 1.0  # of an averaged target; 1: it stays


class ParameterGroup(TypedDict):
    """A group as `torch.optim` takes it; `lr_scale` multiplies the scheduled rate."""

    params: list[nn.Parameter]
    names: list[str]
    weight_decay: float
    lr_scale: float


def schedule(
    base: float,
    final: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int = 0,
    start: float = 0.0,
) -> NDArray[np.float64]:
    """A value for each optimiser step: a linear rise from `start` to `base`, then half a cosine.

    With S steps, of which W warm up: value[i] = start + (base - start) i / (W - 1) for i < W, then
    final + (base - final) (1 + cos(pi (i - W) / (S - W))) / 2; `final` itself is never reached.
    """
    total, warmup = epochs * steps_per_epoch, warmup_epochs * steps_per_epoch
    if warmup > total:
        raise ValueError(f"{warmup_epochs} warm-up epochs are more than {epochs} epochs")
    rise = np.linspace(start, base, warmup)
    share = np.arange(total - warmup) / max(total - warmup, 1)
    fall = final + 0.5 * (base - final) * (1 + np.cos(np.pi * share))
    return np.concatenate((rise, fall)).astype(np.float64)


def stretched_schedule(
    base: float, final: float, *, steps: int, warmup: int = 0, start: float = 0.0, stretch: float
) -> NDArray[np.float64]:
    """The same as V-JEPA has it: the cosine is that of a longer training, which is cut off.

    Steps count from 1; T = int(stretch steps). For s < warmup: start + (base - start) s / warmup,
    then final + (base - final) (1 + cos(pi (s - warmup) / (T - warmup))) / 2, not past `final`.
    """
    count = np.arange(1, steps + 1, dtype=np.float64)
    total = int(stretch * steps)
    rise = start + (base - start) * count / max(warmup, 1)
    share = np.clip((count - warmup) / max(total - warmup, 1), 0, 1)
    fall = final + 0.5 * (base - final) * (1 + np.cos(np.pi * share))
    return np.where(count < warmup, rise, fall)


def momenta(first: float, last: float, *, steps: int, stretch: float) -> NDArray[np.float64]:
    """The momentum of each step: from `first` in equal parts to `last`, after stretch x steps."""
    return first + (last - first) * np.arange(steps, dtype=np.float64) / (stretch * max(steps, 1))


def scaled_rate(rate: float, global_batch: int) -> float:
    """A learning rate stated per 256 clips, for `global_batch` clips in one optimiser step.

    Clips of all processes and of all accumulated parts count.
    """
    return rate * global_batch / 256


def decays(name: str, parameter: nn.Parameter, *, mask_token: bool = False) -> bool:
    """Whether weight decay applies: to matrices, but not to biases, vectors or the mask token.

    `mask_token`: to that, too.
    """
    last = name.rsplit(".", 1)[-1]
    return parameter.ndim > 1 and last != "bias" and (mask_token or last not in UNDECAYED)


def set_values(optimiser: Any, values: StepValues) -> None:
    """Give the groups of an optimiser the learning rate and the weight decay of a step."""
    for group in optimiser.param_groups:
        group["lr"] = values.rate * group["lr_scale"]
        if values.weight_decay is not None and group["weight_decay"]:
            group["weight_decay"] = values.weight_decay


def layer_of(name: str, depth: int) -> int:
    """A parameter's layer: 0 is the embedding, 1 to `depth` the blocks, then the rest."""
    parts = name.removeprefix("encoder.").split(".")
    if parts[0] == "network":  # of timm, whose first parts are named as here
        parts = parts[1:]
    if parts[0] in (*EMBEDDING, *UNDECAYED) or "embeddings" in parts:
        return 0
    block = BLOCK.search(name)
    return int(block[1]) + 1 if block else depth + 1


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    layer_decay: float | None = None,
    depth: int | None = None,
    mask_token: bool = False,
) -> list[ParameterGroup]:
    """Trainable parameters by weight decay and, with `layer_decay`, by layer.

    With layer decay (Clark et al. 2020; for fine-tuning) layer l of an encoder of `depth` blocks
    learns at layer_decay^(depth + 1 - l) of the scheduled rate. The order of groups and of
    parameters is the model's own.
    """
    if layer_decay is not None and depth is None:
        raise ValueError("layer decay needs the encoder's depth")
    groups: dict[tuple[float, float], ParameterGroup] = {}
    for name, parameter in _trainable(model):
        decay = weight_decay if decays(name, parameter, mask_token=mask_token) else 0.0
        scale = 1.0
        if layer_decay is not None and depth is not None:
            scale = layer_decay ** (depth + 1 - layer_of(name, depth))
        group = groups.setdefault(
            (scale, decay),
            {"params": [], "names": [], "weight_decay": decay, "lr_scale": scale},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def adamw(model: nn.Module, settings: Optimiser) -> torch.optim.AdamW:
    """AdamW over the model's parameter groups, one kernel for all tensors of a group."""
    groups = parameter_groups(model, settings.weight_decay, mask_token=settings.decay_mask_token)
    return torch.optim.AdamW(
        [dict(group) for group in groups],
        lr=0.0,  # each step sets its own
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def solver(
    name: Literal["adamw", "sgd"],
    groups: Iterable[ParameterGroup],
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """What fine-tuning and probes learn with; the momentum of `sgd` is the first of `betas`."""
    options = [dict(group) for group in groups]
    if name == "sgd":
        return torch.optim.SGD(options, lr=0.0, momentum=betas[0])
    return torch.optim.AdamW(options, lr=0.0, betas=betas, fused=True)


def _trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)
