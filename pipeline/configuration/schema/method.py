"""`model` and `objective`: the networks, and what the masked tubes are compared with.

Masks, targets and losses are classes of `pipeline.method`, which declare their settings themselves.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipeline.configuration import old_names
from pipeline.configuration.schema.registered import OneOf
from pipeline.configuration.section import Name, Section, Share
from pipeline.method import losses, masks, targets
from pipeline.method.choices import Initialisation, Positions
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
    # of tokens: `sinusoid` of their numbers (VideoMAE); of time, row and column (V-JEPA)
    positions: Positions = "sinusoid"
    initialisation: Initialisation = "videomae"  # of weights; V-JEPA's are normal
    projection_bias: bool = False  # of the linear map from encoder to decoder


class Paste(Section):
    """Objects that move through a clip and are pasted over it, before it is masked (SMILE)."""

    # a folder of cut-outs (PNG or WebP with an alpha channel), or `digits`: the embedded data's
    source: str
    count: int = Field(default=2, gt=0)  # in a clip


class Objective(Section):
    """What the masked tubes are compared with, and how."""

    name: Name  # shown in the report
    # the projection network: trained jointly, a frozen image transformer, or none
    target: Annotated[targets.Target, PlainValidator(OneOf(TARGETS))]
    # SIGMA's cross-prediction of assignments, not with target `pixel`; or regression, not
    # with `mlp` (VideoMAE with `pixel`)
    loss: Annotated[losses.Loss, PlainValidator(OneOf(LOSSES))]
    mask: Annotated[masks.Mask, PlainValidator(OneOf(MASKS))]  # which tubes are hidden
    # masks for each clip, which is decoded and cropped once; the loss is the mean over them
    masks_per_clip: int = Field(default=1, gt=0)
    paste: Paste | None = None  # objects that are pasted into clips; null: none

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not made use of: what was trained without it stays the same."""
        values: dict[str, Any] = handler(self)
        unused = {"masks_per_clip": 1, "paste": None}
        return {k: v for k, v in values.items() if k not in unused or v != unused[k]}

    @model_validator(mode="before")
    @classmethod
    def _old_names_are_read(cls, values: Any) -> Any:
        return old_names.objective(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _makes_sense(self) -> Objective:
        self.loss.check(self.target)
        if self.mask.kinds > 1 and self.loss.prototypes:
            raise ValueError(
                f"loss {self.loss.kind!r} assigns the tubes of one kind of mask: mask "
                f"{self.mask.kind!r} has {self.mask.kinds} kinds in a clip"
            )
        if self.mask.needs_objects and self.paste is None:
            raise ValueError(
                f"mask {self.mask.kind!r} hides pasted objects: choose them with objective.paste, "
                "or another mask"
            )
        if self.mask.learns and self.loss.prototypes:
            raise ValueError(
                f"mask {self.mask.kind!r} learns from the squared error of each tube, which loss "
                f"{self.loss.kind!r} does not make small; use a regression"
            )
        return self
