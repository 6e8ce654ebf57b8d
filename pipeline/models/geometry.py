"""What an encoder's tensors say of its shape, and what they do not.

Width, depth, tube and MLP are shapes of tensors. Heads, frames, size and stride are not: official
checkpoints keep them beside the tensors, as the arguments of their training, where they keep
anything; Hugging Face keeps the first three in `config.json`. Whoever loads a file may say them.
What nobody says is VideoMAE's own (16 frames of 224 x 224 pixels, every fourth), with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from pipeline.configuration.schema import Clip, Model
from pipeline.errors import UserError

# Heads of the published encoders, by width (VideoMAE, SIGMA: S, B, L, H, and VideoMAE v2's g).
HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
STANDARD = {"frames": 16, "size": 224, "stride": 4}
FLAG = "--heads NUMBER, or heads=NUMBER for hub.load"
BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")
DECODER_BLOCK = re.compile(r"decoder\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Hints:
    """What the user says of an encoder; None where she does not."""

    heads: int | None = None
    frames: int | None = None
    size: int | None = None  # pixels
    stride: int | None = None
    sampling: Literal["dense", "per_segment"] | None = None


@dataclass(frozen=True)
class Geometry:
    """An encoder's shape and the clips it sees; `notes` tell what was assumed."""

    model: Model
    clip: Clip
    notes: tuple[str, ...] = field(default=())


def from_state(
    state: Mapping[str, Tensor], said: Mapping[str, Any], hints: Hints, *, place: str
) -> Geometry:
    """Find the geometry of an encoder.

    Args:
        state: tensors under the official names of pretraining (`encoder.blocks.0...`).
        said: what the file says beside them: `heads`, `frames`, `size`, `stride`, `sampling`.
        hints: what the user says, which counts more.

    Raises:
        UserError: for a model of images, for tensors that are no encoder's, and where the heads of
            an unusual width are not said.
    """
    tubes = state.get("encoder.patch_embed.proj.weight")
    inner = state.get("encoder.blocks.0.mlp.fc1.weight")
    if tubes is None or inner is None or tubes.ndim != 5 or inner.ndim != 2:
        what = "its patches have no time: a model of images" if tubes is not None else "no encoder"
        raise UserError(
            f"this is no video transformer of tubes ({what})",
            place=place,
            remedy="give a checkpoint of SIGMA or VideoMAE",
        )
    width = tubes.shape[0]
    heads = hints.heads or said.get("heads") or HEADS.get(width)
    if heads is None:
        raise UserError(
            f"no tensor tells of heads, and {width} is the width of no published encoder",
            place=place,
            remedy=FLAG,
        )
    _, _, t, h, w = tubes.shape
    model = Model(
        name="loaded",
        tube=(t, h, w),
        width=width,
        depth=_count(BLOCK, state),
        heads=heads,
        mlp_ratio=_ratio(inner.shape[0], width),
        **_decoder(state, width, heads),
    )
    clip, notes = _clip(said, hints)
    return Geometry(model, clip, notes)


def _clip(said: Mapping[str, Any], hints: Hints) -> tuple[Clip, tuple[str, ...]]:
    values, assumed = {}, []
    for name, usual in STANDARD.items():
        value = getattr(hints, name) or said.get(name)
        if value is None:
            assumed.append(f"{name} {usual}")
        values[name] = usual if value is None else value
    sampling = hints.sampling or said.get("sampling") or "dense"
    note = f"the file does not say it, so VideoMAE's own is taken: {', '.join(assumed)}"
    clip = Clip(**values, sampling=sampling, scales=(1.0,), flip=False)
    return clip, (note,) if assumed else ()


def of_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the arguments of an official training say, under the names of `from_state`."""
    names = {"frames": "num_frames", "size": "input_size", "stride": "sampling_rate"}
    found = {ours: arguments[theirs] for ours, theirs in names.items() if theirs in arguments}
    whole = {name: value for name, value in found.items() if isinstance(value, int) and value > 0}
    # Their fine-tuning samples Something-Something by segments, all else densely.
    if str(arguments.get("data_set", "")).lower() == "ssv2":
        return whole | {"sampling": "per_segment"}
    return whole


def _decoder(state: Mapping[str, Tensor], width: int, heads: int) -> dict[str, int]:
    """The decoder's shape where the file has one; a stand-in where it is an encoder alone."""
    map_in = state.get("encoder_to_decoder.weight")
    depth = _count(DECODER_BLOCK, state)
    if map_in is None or not depth:
        return {"decoder_width": width, "decoder_depth": 1, "decoder_heads": heads}
    narrow = map_in.shape[0]
    each = 64 if narrow % 64 == 0 else narrow
    return {"decoder_width": narrow, "decoder_depth": depth, "decoder_heads": narrow // each}


def _count(pattern: re.Pattern[str], state: Mapping[str, Tensor]) -> int:
    matches = (pattern.match(name) for name in state)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _ratio(inner: int, width: int) -> float:
    """The ratio of which int(width x ratio) is `inner`."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else (inner + 0.5) / width
