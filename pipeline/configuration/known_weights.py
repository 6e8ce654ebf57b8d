"""What weights say of their encoder, and of the clips that it was trained on.

Read from the header of a safetensors file, or from Hugging Face's `config.json`: no tensor is read
and PyTorch is not needed, so settings can be composed, planned and examined after it. Of PyTorch's
own files all is read.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open

from pipeline.configuration.schema import Clip, Model, Run
from pipeline.configuration.schema.method import Network
from pipeline.configuration.tensor_shapes import (
    HEADS,
    Shapes,
    count,
    encoder_of,
    is_of_tubes,
    ratio,
)
from pipeline.errors import UserError
from pipeline.method.choices import Pooling
from pipeline.runtime.files import read_mapping
from pipeline.weights import formats, networks

MODEL_FORMAT = "sigma-pipeline model 1"  # of this project's pretraining
ENCODER_FORMAT = "sigma-pipeline encoder 1"  # what `exporting` writes
CLIP_KEY = "sigma_pipeline_clip"  # of config.json, for what VideoMAE does not ask
# Of a clip, what an encoder's features depend on; `fps`: frames a second of the videos.
SEEN = ("frames", "size", "stride", "sampling")

# Heads of the published encoders of V-JEPA 2 and 2.1, by width (B, L, H, g, G).
VJEPA2_HEADS = {**HEADS, 1408: 22, 1664: 26}
THEIR_BLOCK = re.compile(r"blocks\.(\d+)\.")

Count = Annotated[int, Field(gt=0, le=1_000_000)]
Epsilon = Annotated[float, Field(gt=0, le=1)]
Kind = TypeVar("Kind", bound=BaseModel)


class Seen(BaseModel):
    """What a model saw beside the geometry of its clips; a key that is not there is not known."""

    model_config = ConfigDict(strict=True, frozen=True)

    # frames a second of its videos; null: of each its own
    fps: float | None = Field(default=None, gt=0, le=10_000)
    mean: tuple[float, float, float] | None = None  # that was taken off pixels from 0 to 1
    std: tuple[float, float, float] | None = None  # by which they then were divided

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


class ExportedClip(BaseModel):
    """What an export of this project adds to `config.json`."""

    model_config = ConfigDict(strict=True)

    stride: Count | None = None
    sampling: Literal["dense", "per_segment"] | None = None
    fps: float | None = Field(default=None, gt=0, le=10_000)


class TheirConfig(BaseModel):
    """`config.json` of Transformers' VideoMAE, with its defaults."""

    model_config = ConfigDict(strict=True)

    image_size: Count = 224
    patch_size: Count = 16
    num_channels: Literal[3] = 3
    num_frames: Count = 16
    tubelet_size: Count = 2
    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: Epsilon = 1e-12
    fc_norm_eps: Epsilon | None = None
    qkv_bias: Literal[True] = True
    id2label: dict[str, Any] | None = None
    clip: ExportedClip | None = Field(default=None, alias=CLIP_KEY)

    @field_validator("image_size", "patch_size", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        if len(value) != 2 or value[0] != value[1]:
            raise ValueError(f"{value} pixels are not square")
        return value[0]

    @field_validator("hidden_act")
    @classmethod
    def _gelu(cls, value: str) -> str:
        if value != "gelu":
            raise ValueError("this activation is not known here, where it is 'gelu'")
        return value

    def model(self) -> Model:
        """Return the encoder; its decoder is not asked for."""
        return Model(
            name="loaded",
            tube=(self.tubelet_size, self.patch_size, self.patch_size),
            width=self.hidden_size,
            depth=self.num_hidden_layers,
            heads=self.num_attention_heads,
            mlp_ratio=ratio(self.intermediate_size, self.hidden_size),
            decoder_width=self.hidden_size,
            decoder_depth=1,
            decoder_heads=self.num_attention_heads,
        )

    def seen(self) -> dict[str, Any]:
        """Return what it says of clips; what it does not say is not there."""
        clip = self.clip.model_dump(exclude_none=True) if self.clip else {}
        return {"frames": self.num_frames, "size": self.image_size, **clip}


class SavedModel(BaseModel):
    """What `hub.save` writes into the metadata."""

    run: Run
    clip: Clip
    seen: Seen = Seen()
    teacher_sha256: str | None = None


class SavedEncoder(BaseModel):
    """What an export to safetensors writes into the metadata."""

    kind: str
    model: Model
    clip: Clip
    seen: Seen = Seen()
    labels: tuple[str, ...] = ()
    layer_norm_eps: Epsilon | None = None
    fc_norm_eps: Epsilon | None = None


@dataclass(frozen=True)
class Known:
    """An encoder, and of SEEN and `fps` what is said of the clips that it was trained on."""

    model: Model
    seen: Mapping[str, Any]


def known(path: Path, pooling: Pooling = "mean") -> Known | None:
    """Return what weights say of themselves; None where they say nothing, or are not there.

    Args:
        pooling: what of a network of images is asked for; other weights' is the mean.

    Raises:
        UserError: where what they say cannot be understood.
    """
    config = path / "config.json" if path.is_dir() else path.with_name("config.json")
    if path.suffix == ".safetensors" and path.is_file():
        metadata, _ = header(path)
        if metadata.get("format") == MODEL_FORMAT:
            saved = checked(SavedModel, metadata, path)
            return Known(saved.run.model, _seen(saved.clip, saved.seen))
        if metadata.get("format") == ENCODER_FORMAT:
            encoder = checked(SavedEncoder, metadata, path)
            return Known(encoder.model, _seen(encoder.clip, encoder.seen))
    if not path.exists():
        return None
    content = read_mapping(config) if config.is_file() else {}
    if path.is_dir() and networks.is_known(content):
        if networks.is_of_timm(content):
            from pipeline.weights import timm_network  # needs PyTorch, which takes seconds

            return _of_network(timm_network.described(path, content, pooling), pooling)
        return _of_network(networks.described(path, content, pooling), pooling)
    if content.get("model_type") == "videomae":
        theirs = checked(TheirConfig, content, config)
        return Known(theirs.model(), theirs.seen())
    return _of_tensors(path) if path.is_file() else None


def _of_network(said: networks.Described, pooling: Pooling = "mean") -> Known:
    """Return a network of the Transformers library; its decoder is a stand-in."""
    model = Model(
        name="loaded",
        tube=said.tube,
        width=said.width,
        depth=said.depth,
        heads=said.heads,
        mlp_ratio=said.mlp_ratio,
        decoder_width=64,
        decoder_depth=1,
        decoder_heads=1,
        network=Network(config=said.config, mean=said.mean, std=said.std, pooling=pooling),
    )
    return Known(model, said.seen)


def _of_tensors(path: Path) -> Known | None:
    """Return what the tensors of others' checkpoints say, and the arguments of their training."""
    state = path.stat()
    try:
        shapes, arguments = _tensors(path, state.st_mtime_ns, state.st_size)
    except UserError:
        return None  # whoever needs the tensors says it
    if (format := formats.recognised(shapes)) is None:
        return None
    if format.network:
        seen = format.clips(shapes, arguments)
        config = _vjepa2(format.network, shapes, seen)
        return _of_network(networks.of_configuration(config, None, str(path))) if config else None
    ours = format.our_names(shapes)
    heads = HEADS.get(ours.get("encoder.patch_embed.proj.weight", (0,))[0])
    if not is_of_tubes(ours) or heads is None:
        return None
    return Known(encoder_of(ours, heads, format.positions[0]), format.clips(shapes, arguments))


def _vjepa2(model_type: str, shapes: Shapes, seen: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Transformers' configuration of V-JEPA 2 or 2.1, by tensors under its authors' names.

    None where they are no such tensors, or of a width of which the heads are not known.
    """
    tubes, inner = shapes.get("patch_embed.proj.weight", ()), shapes.get("blocks.0.mlp.fc1.weight")
    if len(tubes) != 5 or not inner or tubes[0] not in VJEPA2_HEADS:
        return None
    return {
        "model_type": model_type,
        "hidden_size": tubes[0],
        "tubelet_size": tubes[2],
        "patch_size": tubes[3],
        "num_hidden_layers": count(THEIR_BLOCK, shapes),
        "num_attention_heads": VJEPA2_HEADS[tubes[0]],
        "mlp_ratio": ratio(inner[0], tubes[0]),
        "frames_per_clip": seen["frames"],
        "crop_size": seen["size"],
    }


@functools.cache
def _tensors(path: Path, _time: int, _size: int) -> tuple[Shapes, Mapping[str, Any]]:
    """Return shapes of tensors, and the arguments beside them; of a file in this state."""
    if path.suffix == ".safetensors":
        return header(path)[1], {}
    from pipeline.weights import checkpoint_files  # needs PyTorch, which takes seconds

    tensors, arguments = checkpoint_files.read(path)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}, arguments


def header(path: Path | str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return what a safetensors file says of itself (empty: nothing), and its tensors' shapes.

    Raises:
        UserError: where it is none, or damaged. That its tensors are as long as it says is checked.
    """
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None
    try:
        config = json.loads(metadata.get("config", "{}"))
    except (ValueError, RecursionError):
        config = {}
    return (config if isinstance(config, dict) else {}), shapes


def checked(kind: type[Kind], content: Mapping[str, Any], place: Path | str) -> Kind:
    """Return the content as `kind`. Raises UserError, with all that is wrong in one message."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = []
        for item in error.errors(include_url=False):
            key = ".".join(map(str, item["loc"]))
            shown = "" if item["type"] == "missing" else f" (it is {str(item['input'])[:60]})"
            faults.append(f"{key}: {item['msg'].removeprefix('Value error, ')}{shown}")
        more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise UserError(
            f"what it says of the model cannot be used: {'; '.join(faults[:4])}{more}",
            place=str(place),
        ) from None


def _seen(clip: Clip, seen: Seen) -> dict[str, Any]:
    rate = {} if seen.fps is None else {"fps": seen.fps}
    return {key: getattr(clip, key) for key in SEEN} | rate
