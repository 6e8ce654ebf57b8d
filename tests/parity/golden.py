"""What checks against recorded numbers share: a case, the kinds that are known, tolerances.

A module `golden_METHOD.py` beside this one holds a method's checks. Each would catch: any departure
of this project's numerics from the method as its authors ran it, be it in the order of pixels in a
tube, a normalisation, a bias, the branch that a gradient flows into, or the precision of Sinkhorn's
iterations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.configuration.schema import Clip, Model

LOSS = 1e-5  # relative
GRADIENT = 1e-4  # relative norm
ROUNDING = 1e-8  # absolute norm, of gradients that are nothing but rounding
FEATURES = 1e-5  # absolute, of values of order one


@dataclass(frozen=True)
class Case:
    """One folder of recorded numbers."""

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return loaded

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")


Check = Callable[[Case], None]
CHECKS: dict[str, Check] = {}  # kind of case -> what checks it


def checks(kind: str) -> Callable[[Check], Check]:
    """Make a function the check of the cases of a kind."""

    def register(check: Check) -> Check:
        assert kind not in CHECKS, kind
        CHECKS[kind] = check
        return check

    return register


def model_settings(config: dict[str, Any]) -> Model:
    patch = config["patch_size"]
    return Model(
        name="recorded",
        tube=(config["tubelet_size"], patch, patch),
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_ratio=config.get("mlp_ratio", 4.0),
        decoder_width=config.get("decoder_embed_dim", 8),
        decoder_depth=config.get("decoder_depth", 1),
        decoder_heads=config.get("decoder_num_heads", 1),
    )


def clip_settings(config: dict[str, Any]) -> Clip:
    return Clip(
        frames=config["frames"], stride=1, size=config["img_size"], scales=(1.0,), flip=False
    )


def check_loss(case: Case, loss: Tensor) -> None:
    """Compare a loss with the recorded one, and go back from it."""
    torch.testing.assert_close(loss, case.tensors("outputs")["loss"], rtol=LOSS, atol=0)
    loss.backward()


def check_gradients(case: Case, gradients: Mapping[str, Tensor | None]) -> None:
    """Compare gradients, by the reference's names of the parameters, with all recorded ones."""
    without = set(case.config.get("parameters_without_gradient", []))
    for name in without & gradients.keys():
        gradient = gradients[name]
        assert gradient is None or not gradient.any(), name
    recorded = case.tensors("gradients").items()
    compare_gradients(
        {name: each for name, each in gradients.items() if name not in without},
        {name: each for name, each in recorded if name not in without},
    )


def compare_gradients(
    gradients: Mapping[str, Tensor | None],
    expected: Mapping[str, Tensor],
    rounding: Collection[str] = (),
) -> None:
    """Compare gradients with all `expected` ones; those named in `rounding` are nothing else."""
    left = dict(expected)
    for name, gradient in gradients.items():
        recorded = left.pop(name)
        assert gradient is not None, name
        distance, length = (gradient - recorded).norm(), recorded.norm()
        bound = ROUNDING if name in rounding else GRADIENT * length
        assert distance <= bound, f"{name}: {distance:.2e} apart, length {length:.2e}"
    assert not left, "recorded gradients of unknown parameters"


def gradients(
    model: nn.Module, rename: Callable[[str], str] = lambda name: name
) -> dict[str, Tensor | None]:
    """Return a model's gradients by the names that `rename` gives their parameters."""
    return {rename(name): parameter.grad for name, parameter in model.named_parameters()}
