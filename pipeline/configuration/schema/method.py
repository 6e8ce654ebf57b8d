"""`model` and `objective`: the networks, and what the masked tubes are compared with.

Masks, targets and losses are classes of `pipeline.method`, which declare their settings themselves.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, model_validator

from pipeline.configuration.schema.registered import one_of
from pipeline.configuration.schema.section import Name, Section, Share
from pipeline.method import losses, masks, targets
from pipeline.method.losses import LOSSES
from pipeline.method.masks import MASKS
from pipeline.method.targets import TARGETS


class Model(Section):
    """Encoder and decoder (paper, section 4 and its appendix)."""

    name: Name  # shown in the report
    tube: tuple[int, int, int]  # frames, height, width of one space-time tube
    width: int = Field(gt=0)  # of the encoder
    depth: int = Field(gt=0)  # of the encoder, in blocks
    heads: int = Field(gt=0)  # of the encoder's attention
    mlp_ratio: float = Field(gt=0)  # hidden width of an MLP, in widths
    decoder_width: int = Field(gt=0)  # of the decoder
    decoder_depth: int = Field(gt=0)  # of the decoder, in blocks
    decoder_heads: int = Field(gt=0)  # of the decoder's attention
    drop_path: Share = 0.0  # stochastic depth, of the last block
    activation_checkpointing: bool = False  # less memory, more time


# Names of before, which are still read.
FLAT = ("prototypes", "epsilon", "iterations", "temperature")  # of the loss, beside it
KINDS = {"dino": "frozen"}  # of targets


class Objective(Section):
    """What the masked tubes are compared with, and how."""

    name: Name  # shown in the report
    # the projection network: trained jointly, a frozen image transformer, or none
    target: Annotated[targets.Target, PlainValidator(one_of(TARGETS))]
    # SIGMA's cross-prediction of assignments, not with target `pixel`; or regression, not
    # with `mlp` (VideoMAE with `pixel`)
    loss: Annotated[losses.Loss, PlainValidator(one_of(LOSSES))]
    mask: Annotated[masks.Mask, PlainValidator(one_of(MASKS))]  # which tubes are hidden

    @model_validator(mode="before")
    @classmethod
    def _old_names_are_read(cls, values: Any) -> Any:
        return with_new_names(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _makes_sense(self) -> Objective:
        self.loss.check(self.target)
        return self


def with_new_names(objective: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an objective with the keys of before under their names of today."""
    new = {key: value for key, value in objective.items() if key not in FLAT}
    flat = {key: objective[key] for key in FLAT if key in objective}
    loss = new.get("loss")
    if isinstance(loss, str):
        new["loss"] = {"kind": loss}
    if isinstance(new.get("loss"), dict) and new["loss"].get("kind") != "mse":
        new["loss"] = new["loss"] | flat
    target = new.get("target")
    if isinstance(target, dict) and target.get("kind") in KINDS:
        new["target"] = target | {"kind": KINDS[target["kind"]]}
    mask = new.get("mask")
    if isinstance(mask, dict) and "motion" in mask:
        motion = (mask["motion"] or {}) if mask.get("kind") == "motion" else {}
        new["mask"] = {key: value for key, value in mask.items() if key != "motion"} | motion
    return new
