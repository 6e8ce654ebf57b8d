"""`model` and `objective`: the networks, and what the masked tubes are compared with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.configuration.schema.section import Name, Section, Share


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


class MlpTarget(Section):
    kind: Literal["mlp"]
    hidden: tuple[int, ...]  # hidden widths
    width: int = Field(gt=0)  # of the output


class PixelTarget(Section):
    kind: Literal["pixel"]


class DinoTarget(Section):
    kind: Literal["dino"]
    model: str  # a timm name
    weights: str | None = None  # a local safetensors file; null: timm's hub
    sha256: str | None = None  # of that file; checked where given
    precision: Literal["trainer", "bf16"] = "trainer"  # as trainer.precision; bf16: weights, too
    compile: bool = False  # by torch.compile
    own_stream: bool = False  # on an accelerator: beside the encoder, not after it


Target = Annotated[MlpTarget | PixelTarget | DinoTarget, Field(discriminator="kind")]


class Motion(Section):
    """How a mask follows motion (`pipeline.method.masks`); read where `mask.kind` is `motion`."""

    share: float = Field(ge=0, lt=1)  # of the visible tubes; the rest is spread evenly
    contrast: float = Field(gt=0)  # grey levels: slopes well below it are too flat to tell motion


class Mask(Section):
    # one spatial mask for all frames; one for the whole clip; one for each time, in which
    # visible tubes follow motion
    kind: Literal["tube", "random", "motion"]
    ratio: float = Field(gt=0, lt=1)  # of the tubes that are masked
    motion: Motion | None = None  # of kind `motion`

    @model_validator(mode="after")
    def _motion_is_told(self) -> Mask:
        if self.kind == "motion" and self.motion is None:
            raise ValueError("kind 'motion' needs motion.share and motion.contrast")
        return self


class Objective(Section):
    """What the masked tubes are compared with, and how."""

    name: Name  # shown in the report
    target: Target  # the projection network: trained jointly, a frozen image transformer, or none
    # SIGMA's cross-prediction of assignments, not with target `pixel`; or regression, not
    # with `mlp` (VideoMAE with `pixel`)
    loss: Literal["sinkhorn", "mse"]
    mask: Mask  # which tubes are hidden
    prototypes: int = Field(ge=0)  # K; at least 2 for `sinkhorn`
    epsilon: float = Field(gt=0)  # Sinkhorn's entropy weight; less is sharper
    iterations: int = Field(gt=0)  # of Sinkhorn-Knopp
    temperature: float = Field(gt=0)  # of the softmax that is compared with the assignment

    @model_validator(mode="after")
    def _makes_sense(self) -> Objective:
        if self.loss == "sinkhorn" and self.prototypes < 2:
            raise ValueError("loss 'sinkhorn' needs prototypes >= 2")
        if self.loss == "sinkhorn" and self.target.kind == "pixel":
            raise ValueError(
                "loss 'sinkhorn' compares features with prototypes: target 'pixel' has none; "
                "use target 'mlp' or 'dino', or loss 'mse'"
            )
        if self.loss == "mse" and self.target.kind == "mlp":
            raise ValueError(
                "loss 'mse' with a jointly trained target 'mlp' collapses to a constant "
                "(paper, section 1); use loss 'sinkhorn', or target 'pixel' or 'dino'"
            )
        return self
