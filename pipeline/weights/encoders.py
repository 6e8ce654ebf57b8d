"""An encoder from whatever file a user has; what kind it is, the file itself tells.

- a `model.safetensors` of this project;
- a checkpoint of SIGMA, VideoMAE or another of the `formats`, pretrained or fine-tuned (.pth,
  .pt, .safetensors);
- a directory of Hugging Face's VideoMAE (`config.json` beside the weights), or its weights alone;
- a directory of one of the `networks` of the Transformers library.

Only tensors are read (safetensors, or PyTorch's format without unpickling), and none but the
encoder's. One that is missing, left over or of another shape is an error that names it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from pipeline.configuration import fitting_weights, known_weights
from pipeline.configuration.known_weights import ENCODER_FORMAT, SavedEncoder, TheirConfig
from pipeline.configuration.schema import Clip, Model, Run
from pipeline.errors import UserError
from pipeline.method.choices import Pooling, Positions
from pipeline.method.pixels import MEAN, STD
from pipeline.method.positions import positions
from pipeline.method.vit import Encoder
from pipeline.runtime.files import read_mapping, sha256_file
from pipeline.weights import checkpoint_files, formats, hub, hugging_face, networks, processor
from pipeline.weights.checkpoint_files import some
from pipeline.weights.formats import Channels, Format

HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Origin:
    """Where an encoder's weights are from."""

    kind: str  # in words
    path: str
    sha256: dict[str, str]  # of each file that was read, by its name
    other_clip: tuple[str, ...] = ()  # where a run gives it other clips than it was trained on

    def record(self) -> dict[str, Any]:
        """Return what pretrain.json says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, whoever wrote it."""

    kind: str  # in words
    files: Sequence[Path]
    # `encoder.NAME`, `decoder.NAME`; of a fine-tuned one `fc_norm.NAME`, `head.NAME`
    tensors: Mapping[str, Tensor]
    arguments: Mapping[str, Any]  # of the training, where the file has them
    config: SavedEncoder | TheirConfig | None  # ours within the file, or Hugging Face's beside it
    format: Format | None = None  # None: a model or an export of this project
    # what is known of the clips that it was trained on, where no `config` says it
    clips: Mapping[str, Any] = field(default_factory=dict)
    positions: tuple[Positions, ...] = get_args(Positions)  # one of these
    model: Model | None = None  # where the weights are of a network of the Transformers library


def read(place: Path, pooling: Pooling = "mean") -> Checkpoint:
    """Read a file, or a directory that Transformers wrote.

    `pooling`: what of a network of images is asked for.

    Raises:
        UserError: where there are no weights, or none that can be read here.
    """
    files = weight_files(place)
    if (of_network := _of_network(place, files, pooling)) is not None:
        return of_network
    if pooling == "own":
        raise UserError(
            "these weights are of no network of images with a pooling of its own",
            place=str(place),
            remedy="give a folder of Transformers or timm, or use pooling 'mean'",
        )
    config = _config(place, files[0])
    state: dict[str, Tensor] = {}
    arguments: dict[str, Any] = {}
    for file in files:
        tensors, values = checkpoint_files.read(file)
        state |= tensors
        arguments |= values
    kind, format, ours = _recognised(state, config, files[0])
    checkpoint = Checkpoint(kind, files, ours, arguments, config)
    if format is None:
        return checkpoint
    if format.network:
        known = known_weights.known(place)
        if known is None:
            raise UserError(
                f"{kind} of a width that none of the published ones has: its heads are not known",
                place=str(place),
            )
        return replace(checkpoint, clips=known.seen, model=known.model)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    kinds, stored = format.positions, state.get(format.stored)
    if stored is not None and kinds != ("sinusoid",):
        kinds = tuple(kind for kind in kinds if _are_positions(stored[0], kind))
        if not kinds:
            raise UserError(
                f"its positions are none of {', '.join(format.positions)}", place=str(place)
            )
    clips = format.clips(shapes, arguments)
    return replace(checkpoint, format=format, clips=clips, positions=kinds)


def _of_network(place: Path, files: Sequence[Path], pooling: Pooling) -> Checkpoint | None:
    """Read a directory of a network of the Transformers library; None where it is none."""
    known = known_weights.known(place, pooling)
    network = known.model.network if known else None
    if known is None or network is None or not place.is_dir():
        return None
    from pipeline.weights import network_encoder

    tensors = network_encoder.tensors(place, files[0], network.config, pooling)
    kind = f"Transformers' {network.config['model_type']}"
    if network.config["model_type"] == networks.TIMM:
        kind = f"timm's {network.config['architecture']}"
    if pooling == "own":
        kind += ", pooled by itself"
    return Checkpoint(kind, files, tensors, {}, None, clips=known.seen, model=known.model)


def _are_positions(stored: Tensor, kind: Positions) -> bool:
    """Whether positions N,D are of this kind, for clips of some number of square pictures."""
    count, width = stored.shape
    for times in range(1, count + 1):
        side = math.isqrt(count // times)
        if times * side**2 == count:
            computed = positions(kind, (times, side, side), width)
            if torch.allclose(computed, stored.float(), rtol=0, atol=1e-4):
                return True
    return False


def fill(encoder: Encoder, run: Run, clip: Clip, fps: float | None = None) -> Origin:
    """Fill the encoder of `run.model` with the weights that `run.weights` names.

    Args:
        fps: frames a second of the videos that it will be given; None: of each its own.

    Raises:
        UserError: where the file is not there, is not the one that `run.weights_sha256` names, or
            holds another encoder.
    """
    if run.weights is None:
        raise ValueError("this run names no weights")
    path = Path(run.weights)
    digests = {file.name: sha256_file(file) for file in weight_files(path)}
    if run.weights_sha256 is not None and run.weights_sha256 not in digests.values():
        raise UserError(
            f"SHA-256 of the weights is {', '.join(digests.values())}, not {run.weights_sha256}",
            place=str(path),
            remedy="fetch the file again, or correct runs.NAME.weights_sha256",
        )
    origin, checkpoint = opened(path, run, clip, fps)
    fill_from(checkpoint, encoder, path)
    return origin


def opened(path: Path, run: Run, clip: Clip, fps: float | None = None) -> tuple[Origin, Checkpoint]:
    """Read weights for a run's encoder, and say where they are from.

    Raises UserError where they say that they are of another encoder, or other clips.
    """
    files = weight_files(path)
    other_clip: list[str] = []
    if known := known_weights.known(path, run.pooling):
        # Another rate is refused where it is planned (`fitting_weights.check`), here it is told.
        unlike = fitting_weights.differences(known, clip, "not compared")
        fitting_weights.refuse_others(known, run, unlike, place=str(path))
        other_clip = fitting_weights.differences(known, clip, fps)
    digests = {file.name: sha256_file(file) for file in files}
    checkpoint = read(path, run.pooling)
    return Origin(checkpoint.kind, str(path), digests, tuple(other_clip)), checkpoint


def fill_from(checkpoint: Checkpoint, encoder: Encoder, path: Path) -> None:
    """Fill an encoder with what was read from `path`. Raises UserError where it does not fit."""
    if isinstance(checkpoint.config, TheirConfig) and path.is_dir():
        processor.check(path, checkpoint.config.image_size)
    tensors = dict(checkpoint.tensors)
    if encoder.position_kind not in checkpoint.positions:
        raise UserError(
            f"{checkpoint.kind} has positions {' or '.join(checkpoint.positions)}, the encoder of "
            f"the run {encoder.position_kind}",
            place=str(path),
            remedy=f"set model.positions to {checkpoint.positions[0]}",
        )
    without_norm = checkpoint.format is not None and checkpoint.format.without_norm
    if without_norm and "encoder.norm.weight" not in tensors:
        # Fine-tuning has put the norm after the mean.
        tensors["encoder.norm.weight"] = torch.ones(encoder.width)
        tensors["encoder.norm.bias"] = torch.zeros(encoder.width)
        print("note: these weights have no last LayerNorm: it begins anew", file=sys.stderr)
    hub.load_pretrained_encoder(encoder, tensors, place=str(path))
    warn_of_zero_biases(encoder, path)


def weight_files(path: Path) -> list[Path]:
    """Return the file or files with the weights."""
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return _parts(index)
    files = [path / name for name in HUGGING_FACE_FILES if (path / name).is_file()]
    if not files:
        expected = f"a directory needs {' or '.join(HUGGING_FACE_FILES)}" if path.is_dir() else ""
        raise UserError(
            "there are no weights",
            place=str(path),
            remedy=expected or "name a file that is there, or a directory of Hugging Face's",
        )
    return files[:1]


def _parts(index: Path) -> list[Path]:
    """Return the files among which weights are spread."""
    places = read_mapping(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise UserError("it does not say which file holds which tensor", place=str(index))
    files = [index.parent / Path(name).name for name in sorted(set(places.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"the weights are not whole: {some(missing)} missing", place=str(index))
    return files


def _config(place: Path, file: Path) -> SavedEncoder | TheirConfig | None:
    """Return Hugging Face's configuration beside the weights, or ours within them."""
    if file.suffix == ".safetensors":
        within, _ = known_weights.header(file)
        if within.get("format") == ENCODER_FORMAT:
            return known_weights.checked(SavedEncoder, within, file)
    beside = (place if place.is_dir() else place.parent) / "config.json"
    if not beside.is_file():
        return None
    content = read_mapping(beside)
    kind = content.get("model_type")
    if kind == "videomae":
        return known_weights.checked(TheirConfig, content, beside)
    if place.is_dir():
        raise UserError(
            f"a model of type {kind!r}, none of {', '.join(('videomae', *networks.NAMES))}",
            place=str(beside),
        )
    return None


def _recognised(
    state: Mapping[str, Tensor], config: SavedEncoder | TheirConfig | None, file: Path
) -> tuple[str, Format | None, dict[str, Tensor]]:
    """Return what the tensors are, in words, their format where they are others', and themselves.

    They are under this project's names, for pixels that are normalised as everywhere here.
    """
    if isinstance(config, SavedEncoder):
        return config.kind, None, dict(state)
    format = formats.recognised(state)
    if format is None:
        raise UserError(
            f"this is no encoder that can be read here; its tensors are {some(state)}",
            place=str(file),
            remedy="give a model of this project, or one of docs/evaluation.md (Any encoder)",
        )
    if format is formats.HUGGING_FACE:
        heads = hugging_face.head_tensors(state)
        return format.kind, format, hugging_face.encoder_tensors(state) | heads
    ours = format.renamed(state)
    if file.suffix == ".safetensors" and hub.is_ours(file):
        return "a model of this project", None, ours
    if format.normalisation is not None:
        _take_our_pixels(ours, *format.normalisation)
    return format.kind, format, ours


def _take_our_pixels(tensors: dict[str, Tensor], mean: Channels, std: Channels) -> None:
    """Change the tube embedding of an encoder of pixels that were normalised otherwise.

    With pixels x as they are here, theirs are x a + b; a linear map takes both into itself, so
    features stay as they are.
    """
    weight, bias = (tensors[f"encoder.patch_embed.proj.{each}"] for each in ("weight", "bias"))
    ours, theirs = torch.tensor((MEAN, STD)), torch.tensor((mean, std))
    a, b = ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1]
    tensors["encoder.patch_embed.proj.bias"] = bias + weight.sum((2, 3, 4)) @ b
    tensors["encoder.patch_embed.proj.weight"] = weight * a[:, None, None, None]


def warn_of_zero_biases(encoder: Encoder, path: Path) -> None:
    """Say where no block has a query or value bias: a faulty export loses them without a word."""
    biases = [
        value for name, value in encoder.named_parameters() if name.endswith(("q_bias", "v_bias"))
    ]
    if biases and not any(bool(value.any()) for value in biases):
        print(
            f"warning: all query and value biases in {path} are zero, as after an export by a "
            "version of Transformers that loses them",
            file=sys.stderr,
        )
