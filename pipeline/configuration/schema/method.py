"""`model` and `objective`: the networks, and what the masked tubes are compared with.

Masks, targets and losses are classes of `pipeline.method`, which declare their settings themselves.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    model_validator,
)

from pipeline.configuration import old_names
from pipeline.configuration.schema.registered import OneOf
from pipeline.configuration.section import Name, Section, Share
from pipeline.method import losses, masks, targets
from pipeline.method.choices import Background, Initialisation, Pooling, Positions
from pipeline.method.losses import LOSSES
from pipeline.method.masks import MASKS
from pipeline.method.targets import TARGETS


class Network(Section):
    """A network of the Transformers library or of timm, in place of this project's encoder."""

    added_later = ("pooling",)

    # of its `config.json`: `model_type`, and what differs from the library's defaults; of timm's
    # `model_type: timm`, `architecture` and its arguments
    config: dict[str, Any]
    mean: tuple[float, float, float]  # that is taken off pixels (R, G, B) from 0 to 1
    std: tuple[float, float, float]  # by which they then are divided
    pooling: Pooling = "mean"  # of its features of a clip; it follows `runs.NAME.pooling`


class Model(Section):
    """Encoder and decoder (paper, section 4 and its appendix)."""

    added_later = ("network", "background")

    name: Name  # shown in the report
    tube: tuple[int, int, int]  # frames, height, width of one space-time tube
    width: int = Field(gt=0)  # of the encoder
    depth: int = Field(gt=0)  # of the encoder, in blocks
    heads: int = Field(gt=0)  # of the encoder's attention
    mlp_ratio: float = Field(gt=0)  # hidden width of an MLP, in widths
    decoder_width: int = Field(gt=0)  # of the decoder
    decoder_depth: int = Field(gt=0)  # of the decoder, in blocks
    decoder_heads: int = Field(gt=0)  # of the decoder's attention
    # null: it gets pixels; or what they differ from their mean over the frames of a clip, which
    # takes out what stands still (docs/notes/what-helps.md)
    background: Background = None
    drop_path: Share = 0.0  # stochastic depth, of the last block
    activation_checkpointing: bool = False  # less memory, more time
    # of tokens: `sinusoid` of their numbers (VideoMAE); of time, row and column (V-JEPA)
    positions: Positions = "sinusoid"
    initialisation: Initialisation = "videomae"  # of weights; V-JEPA's are normal
    projection_bias: bool = False  # of the linear map from encoder to decoder
    # in place of the encoder, which is then evaluated only; it follows `runs.NAME.weights`
    network: Network | None = None


class Paste(Section):
    """Objects that move through a clip and are pasted over it, before it is masked (SMILE)."""

    # a folder of cut-outs (PNG or WebP with an alpha channel), or `digits`: the embedded data's
    source: str
    count: int = Field(default=2, gt=0)  # in a clip


class FurtherTarget(Section):
    """A target beside the first, which has a decoder of its own (MVD)."""

    # what the masked tubes are compared with, too
    target: Annotated[targets.Target, PlainValidator(OneOf(TARGETS))]
    weight: float = Field(default=1.0, gt=0)  # of its loss in the sum


class Alignment(Section):
    """Which blocks of the encoder are compared with the layers of the target (UMT)."""

    # how many blocks lie between two: block depth - 1 - int(i x interval) is compared with the
    # i-th layer from the last
    interval: float = Field(default=1.0, gt=0)


class Objective(Section):
    """What the masked tubes are compared with, and how."""

    added_later = ("masks_per_clip", "paste", "weight", "further", "alignment")

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
    weight: float = Field(default=1.0, gt=0)  # of the loss, beside those of further targets
    # more targets by their names, each with a decoder of its own; the loss is the weighted sum
    further: dict[Name, FurtherTarget] = Field(default_factory=dict)
    # visible tubes are compared, by a linear map of the encoder's blocks, in place of hidden ones
    alignment: Alignment | None = None

    @property
    def all_targets(self) -> tuple[targets.Target, ...]:
        """All targets, the first one first."""
        return (self.target, *(each.target for each in self.further.values()))

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs of the experiment whose encoders are targets."""
        return tuple(name for each in self.all_targets for name in getattr(each, "needs", ()))

    @property
    def files(self) -> tuple[str, ...]:
        """The files of weights that targets and the mask name."""
        files = (getattr(each, "weights", None) for each in (*self.all_targets, self.mask))
        return tuple(file for file in files if file)

    @model_validator(mode="before")
    @classmethod
    def _old_names_are_read(cls, values: Any) -> Any:
        return old_names.objective(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _makes_sense(self) -> Objective:
        for target in self.all_targets:
            self.loss.check(target)
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
        if self.mask.learns and (self.further or self.alignment):
            raise ValueError(
                f"mask {self.mask.kind!r} learns from the errors of hidden tubes of one target: "
                "leave out objective.further and objective.alignment"
            )
        several = len(self.all_targets) > 1 or len(getattr(self.target, "layers", ())) > 1
        if several and self.loss.prototypes:
            raise ValueError(
                f"loss {self.loss.kind!r} assigns features of one target and one layer to "
                "prototypes; of several use a regression, such as 'smooth_l1' or 'cosine'"
            )
        if any(isinstance(each.target, targets.AveragedTarget) for each in self.further.values()):
            raise ValueError("target 'averaged' can only be the first target, not a further one")
        teaches = isinstance(self.target, targets.FrozenTarget | targets.EncoderTarget)
        if self.mask.by_attention and not teaches:
            raise ValueError(
                f"mask {self.mask.kind!r} follows what the target's network attends to: target "
                f"{self.target.kind!r} has no frozen transformer; use 'frozen' or 'encoder'"
            )
        if self.alignment is not None:
            self._can_align(teaches=teaches)
        return self

    def _can_align(self, *, teaches: bool) -> None:
        if not teaches:
            raise ValueError(
                f"alignment compares visible tubes with a frozen network's features: target "
                f"{self.target.kind!r} is no such network; use 'frozen' or 'encoder'"
            )
        if self.further:
            raise ValueError("alignment is of one target: leave out objective.further")
        if self.loss.prototypes:
            raise ValueError(f"alignment needs a regression, not loss {self.loss.kind!r}")
        if self.mask.kinds > 1 or self.mask.kind == "dual":
            raise ValueError(
                f"alignment needs a mask that tells visible tubes from hidden ones alone: mask "
                f"{self.mask.kind!r} also says which are decoded"
            )
