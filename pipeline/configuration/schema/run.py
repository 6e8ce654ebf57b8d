"""`runs.NAME`: one encoder of the experiment, pretrained here or elsewhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.configuration.schema.method import Model, Objective
from pipeline.configuration.schema.training import Trainer
from pipeline.configuration.section import Section
from pipeline.method.choices import Pooling
from pipeline.method.targets import FrozenTarget


class OwnClip(Section):
    """What weights take otherwise than `data.clip`; null: as there."""

    frames: int | None = Field(default=None, gt=0)  # of a clip
    size: int | None = Field(default=None, gt=0)  # pixels, square
    stride: int | None = Field(default=None, gt=0)  # frames from one to the next
    sampling: Literal["dense", "per_segment"] | None = None  # which frames of a video


class Run(Section):
    """One pretrained (or untrained) encoder of the experiment."""

    added_later = ("clip", "init", "pooling")

    model: Model
    objective: Objective
    trainer: Trainer
    # an encoder that somebody has trained, in place of pretraining (docs/evaluation.md); with
    # 0 epochs alone
    weights: str | None = None
    weights_sha256: str | None = None  # of that file; checked where given
    # what of a network of images is asked for: `mean` of its patches, or its `own` pooling, such as
    # SigLIP's attention or CLIP's projected class token (docs/evaluation.md)
    pooling: Pooling = "mean"
    # clips of its own, where its weights were trained on others than `data.clip`; null: none
    clip: OwnClip | None = None
    # give the weights other clips (data.clip, data.decode.fps) than those that they say they
    # were trained on; the report says so
    allow_other_clip: bool = False
    # what training begins with in place of fresh weights: the encoder of another run of this
    # experiment, by its name, which is then trained first; or of a file (a `/` or `.` tells it)
    init: str | None = None
    # take the decoder from there, too, but for its last map, which is the target's
    init_decoder: bool = False

    @property
    def init_run(self) -> str | None:
        """The run of this experiment that training begins with."""
        return None if self.init is None or self.init_file else self.init

    @property
    def init_file(self) -> str | None:
        """The file of weights that training begins with."""
        return self.init if self.init and any(mark in self.init for mark in "/.") else None

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs that are trained before this one: what it begins with, or its targets are of."""
        of_targets = self.objective.needs if self.trainer.epochs else ()
        return tuple(dict.fromkeys([*([self.init_run] if self.init_run else []), *of_targets]))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = super()._as_before(handler)
        if self.init is None:
            values.pop("init_decoder", None)  # it says nothing without
        return values

    @model_validator(mode="after")
    def _init_is_trained(self) -> Run:
        if self.init is None and self.init_decoder:
            raise ValueError("init_decoder needs init, which says whose decoder it is")
        if self.init is not None and not self.trainer.epochs:
            raise ValueError(
                "init is what a training begins with: set trainer.epochs above 0 (or, of a file, "
                "give weights in its place)"
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_aligned(self) -> Run:
        alignment, layers = self.objective.alignment, getattr(self.objective.target, "layers", ())
        if alignment is None:
            return self
        if self.model.depth <= int((len(layers) - 1) * alignment.interval):
            raise ValueError(
                f"alignment of {len(layers)} layers, {alignment.interval:g} apart, needs more than "
                f"the {self.model.depth} blocks of the encoder (model.depth)"
            )
        if self.model.positions == "learned":
            raise ValueError("alignment adds fixed positions: model.positions cannot be 'learned'")
        return self

    @model_validator(mode="after")
    def _backgrounds_can_be_subtracted(self) -> Run:
        if self.model.background is None:
            return self
        networks = [getattr(t, "features", t) for t in self.objective.all_targets]
        if any(isinstance(network, FrozenTarget) for network in networks):
            raise ValueError(
                "model.background 'subtract' leaves a frozen image network nothing of what it "
                "knows: use another target, or background null"
            )
        if self.model.network is not None:
            raise ValueError(
                "model.background 'subtract' is of encoders of this project, not of networks of "
                "the Transformers library"
            )
        return self

    @model_validator(mode="after")
    def _networks_are_not_trained(self) -> Run:
        if self.model.network is not None and self.trainer.epochs:
            raise ValueError(
                "a network of the Transformers library is evaluated, not pretrained: set "
                "trainer.epochs of the run to 0"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_not_trained(self) -> Run:
        if self.weights is not None and self.trainer.epochs:
            raise ValueError(
                "weights are taken as they are: set trainer.epochs of the run to 0, or give them "
                "as init, to train on from them"
            )
        for key in ("weights_sha256", "clip"):
            if self.weights is None and getattr(self, key) is not None:
                raise ValueError(f"{key} needs weights")
        return self

    @model_validator(mode="after")
    def _pooling_is_of_the_weights(self) -> Run:
        theirs = self.model.network.pooling if self.model.network else "mean"
        if self.pooling == "own" and (self.weights is None or self.model.network is None):
            raise ValueError(
                "pooling 'own' is of networks of images whose folder is given as weights "
                "(Transformers or timm): use pooling 'mean'"
            )
        if self.pooling != theirs:
            raise ValueError(
                f"pooling is {self.pooling!r}, that of the network (model.network) {theirs!r}: "
                f"leave model out of the command, or set pooling to {theirs!r}"
            )
        return self
