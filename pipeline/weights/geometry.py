"""What an encoder's tensors say of its shape, and what they do not.

Width, depth, tube and MLP are shapes of tensors. Heads, frames, size and stride are not: official
checkpoints keep them beside the tensors, as the arguments of their training, where they keep
anything; Hugging Face keeps the first three in `config.json`. Whoever loads a file may say them.
What nobody says is VideoMAE's own (16 frames of 224 x 224 pixels, every fourth), with a note.

What a file says of itself is compared with the shapes of its tensors before anything is built.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor

from pipeline.configuration.schema import Clip, Model, Run
from pipeline.configuration.schema.method import Network
from pipeline.configuration.tensor_shapes import (
    BLOCK,
    DECODER_BLOCK,
    HEADS,
    Shapes,
    count,
    encoder_of,
    is_of_tubes,
)
from pipeline.errors import UserError
from pipeline.method.targets import MlpTarget

NETWORK_BLOCK = re.compile(r"encoder\.network\.(?:\w+\.)*(?:blocks|layers?)\.(\d+)\.")
STANDARD = {"frames": 16, "size": 224, "stride": 4}
FLAG = "--heads NUMBER, or heads=NUMBER for hub.load"
# Tubes of a clip: their positions are built, and no tensor of the file bounds them. So many has one
# of 256 frames of 512 x 512 pixels in tubes of 2 x 16 x 16.
MOST_TUBES = 1 << 17


@dataclass(frozen=True)
class Hints:
    """What the user says of an encoder; None where she does not."""

    heads: int | None = None
    frames: int | None = None
    size: int | None = None  # pixels
    stride: int | None = None
    sampling: Literal["dense", "per_segment"] | None = None
    fps: float | None = None  # frames a second that a video is brought to

    def of_clip(self) -> dict[str, Any]:
        """Return what is said of clips alone."""
        return {k: v for k, v in vars(self).items() if v is not None and k not in {"heads", "fps"}}


@dataclass(frozen=True)
class Geometry:
    """An encoder's shape and the clips it sees; `notes` tell what was assumed."""

    model: Model
    clip: Clip
    fps: float | None = None  # of the videos that it was trained on; None: of each its own
    notes: tuple[str, ...] = field(default=())


def from_state(
    state: Mapping[str, Tensor], metadata: Mapping[str, Any], hints: Hints, *, place: str
) -> Geometry:
    """Find the geometry of an encoder.

    Args:
        state: tensors under the official names of pretraining (`encoder.blocks.0...`).
        metadata: what the file says beside them: `heads`, `positions`, `frames`, `size`, `stride`,
            `sampling`.
        hints: what the user says, which counts more.

    Raises:
        UserError: for a model of images, for tensors that are no encoder's, and where the heads of
            an unusual width are not given.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if not is_of_tubes(shapes):
        is_image = "encoder.patch_embed.proj.weight" in shapes
        what = "its patches have no time: a model of images" if is_image else "no encoder"
        raise UserError(
            f"this is no video transformer of tubes ({what})",
            place=place,
            remedy="give a checkpoint of SIGMA or VideoMAE",
        )
    width = shapes["encoder.patch_embed.proj.weight"][0]
    heads = hints.heads or metadata.get("heads") or HEADS.get(width)
    if heads is None:
        raise UserError(
            f"no tensor tells of heads, and {width} is the width of no published encoder",
            place=place,
            remedy=FLAG,
        )
    model = encoder_of(shapes, heads, metadata.get("positions", "sinusoid"))
    clip, notes = clip_of(metadata, hints)
    check_encoder(model, clip, shapes, place)
    return Geometry(model, clip, hints.fps or metadata.get("fps"), notes)


def clip_of(metadata: Mapping[str, Any], hints: Hints) -> tuple[Clip, tuple[str, ...]]:
    """Return the clips of an encoder, and notes of what was assumed."""
    values, assumed = {}, []
    for name, usual in STANDARD.items():
        value = getattr(hints, name) or metadata.get(name)
        if value is None:
            assumed.append(f"{name} {usual}")
        values[name] = usual if value is None else value
    sampling = hints.sampling or metadata.get("sampling") or "dense"
    note = f"the file does not say it, so VideoMAE's own is taken: {', '.join(assumed)}"
    clip = Clip(**values, sampling=sampling, scales=(1.0,), flip=False)
    return clip, (note,) if assumed else ()


def refuse_subtracted_background(model: Model, whose: str) -> None:
    """Raise `UserError` where `whose` format has no place for a background that is subtracted."""
    if model.background is not None:
        raise UserError(
            f"{whose} does not subtract the background of a clip",
            place="model.background",
            remedy="export the encoder as onnx or safetensors, which do",
        )


def check_encoder(model: Model, clip: Clip, shapes: Shapes, place: str) -> None:
    """Refuse a geometry that is not the tensors': what is built after it is bounded by the file.

    Args:
        shapes: of the tensors under the official names of pretraining.

    Raises:
        UserError: it names what differs; also for clips that no tube divides, or of too many.
    """
    if model.network is None:
        expected: dict[str, tuple[int, ...]] = {
            "encoder.patch_embed.proj.weight": (model.width, 3, *model.tube),
            "encoder.blocks.0.mlp.fc1.weight": (_inner(model.width, model), model.width),
        }
        _compare(expected, {"encoder": (BLOCK, model.depth)}, shapes, place)
    else:
        _compare({}, {"encoder": (NETWORK_BLOCK, model.depth)}, shapes, place)
        _compare(_network_shapes(model.network, clip), {}, shapes, place)
    t, h, w = model.tube
    tubes = (clip.frames // t) * (clip.size // h) * (clip.size // w)
    if tubes > MOST_TUBES:
        raise UserError(
            f"clips of {clip.frames} frames of {clip.size} x {clip.size} pixels have {tubes:,} "
            f"tubes, more than {MOST_TUBES:,}",
            place=place,
        )


def _network_shapes(network: Network, clip: Clip) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors; none is allocated."""
    from pipeline.weights import network_encoder

    return network_encoder.shapes(network.config, clip.size, network.pooling)


def check_pretraining(run: Run, clip: Clip, shapes: Shapes, place: str) -> None:
    """The same of a model of this project's pretraining, with its decoder and target network."""
    model, objective = run.model, run.objective
    check_encoder(model, clip, shapes, place)
    narrow, pixels = model.decoder_width, 3 * math.prod(model.tube)
    expected: dict[str, tuple[int, ...]] = {}
    decoders: dict[str, tuple[re.Pattern[str], int]] = {}
    if objective.alignment is None:
        expected = {
            "encoder_to_decoder.weight": (narrow, model.width),
            "decoder.blocks.0.mlp.fc1.weight": (_inner(narrow, model), narrow),
        }
        decoders = {"decoder": (DECODER_BLOCK, model.decoder_depth)}
    if isinstance(objective.target, MlpTarget):
        widths = (pixels, *objective.target.hidden, objective.target.width)
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            expected[f"head.{2 * number}.weight"] = (outputs, inputs)
            if f"head.{2 * number}.weight" not in shapes:
                break  # however many it says
    prototypes = shapes.get("prototypes", (0,))
    if objective.loss.prototypes:
        expected["prototypes"] = (objective.loss.prototypes, *prototypes[1:])
    _compare(expected, decoders, shapes, place)


def _compare(
    expected: Shapes, depths: Mapping[str, tuple[re.Pattern[str], int]], shapes: Shapes, place: str
) -> None:
    faults = [
        f"{name} of {shape}, where its tensor is {shapes.get(name, 'not there')}"
        for name, shape in expected.items()
        if shapes.get(name) != shape
    ]
    for part, (pattern, depth) in depths.items():
        if (blocks := count(pattern, shapes)) != depth:
            faults.append(f"{depth:,} blocks of the {part}, where it has {blocks}")
    if faults:
        raise UserError(
            f"what it says of itself is not what it holds: {'; '.join(faults)}",
            place=place,
            remedy="fetch the file again; if it is whole, its configuration is another model's",
        )


def _inner(width: int, model: Model) -> int:
    """Return the hidden width of an MLP; -1, no tensor's, where it is no number."""
    hidden = width * model.mlp_ratio
    return int(hidden) if math.isfinite(hidden) else -1
