"""An encoder from whatever file a user has; what kind it is, the file itself tells.

- a `model.safetensors` of this project;
- an official checkpoint of SIGMA or VideoMAE, pretrained or fine-tuned (.pth, .pt, .safetensors);
- a directory of Hugging Face's VideoMAE (`config.json` beside the weights), or its weights alone.

Only tensors are read (safetensors, or PyTorch's format without unpickling), and none but the
encoder's. One that is missing, left over or of another shape is an error that names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.configuration import known_weights
from pipeline.configuration.known_weights import TheirConfig
from pipeline.configuration.schema import Clip, Run
from pipeline.errors import UserError
from pipeline.method.vit import Encoder
from pipeline.runtime.files import read_mapping, sha256_file
from pipeline.weights import hub, hugging_face, processor
from pipeline.weights.checkpoint_files import some

HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin")
HEADS_OF = ("fc_norm.", "head.", "classifier.")  # of a fine-tuned model: passed over


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
    files = weight_files(path)
    digests = {file.name: sha256_file(file) for file in files}
    if run.weights_sha256 is not None and run.weights_sha256 not in digests.values():
        raise UserError(
            f"SHA-256 of the weights is {', '.join(digests.values())}, not {run.weights_sha256}",
            place=str(path),
            remedy="fetch the file again, or correct runs.NAME.weights_sha256",
        )
    other_clip: list[str] = []
    if known := known_weights.known(path):
        # Another rate is refused where it is planned (`known_weights.check`), here it is told.
        unlike = known_weights.differences(known, clip, "not compared")
        known_weights.refuse_others(known, run, unlike, place=str(path))
        other_clip = known_weights.differences(known, clip, fps)
    if (path / "config.json").is_file():
        _check_hugging_face(path)
    state: dict[str, Tensor] = {}
    for file in files:
        state |= hub.read_state(file)
    kind, ours = _recognised(state, files[0], encoder)
    hub.load_pretrained_encoder(encoder, ours, place=str(path))
    warn_of_zero_biases(encoder, path)
    return Origin(kind, str(run.weights), digests, tuple(other_clip))


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
            remedy=expected or "see runs.NAME.weights",
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


def _check_hugging_face(folder: Path) -> None:
    """Refuse a model of another kind, and one whose pictures are normalised in another way."""
    file = folder / "config.json"
    content = read_mapping(file)
    if content.get("model_type") != "videomae":
        raise UserError(
            f"a model of type {content.get('model_type')!r}, not 'videomae'", place=str(file)
        )
    processor.check(folder, known_weights.checked(TheirConfig, content, file).image_size)


def _recognised(
    state: Mapping[str, Tensor], file: Path, encoder: Encoder
) -> tuple[str, dict[str, Tensor]]:
    """Return what the tensors are, in words, and the encoder's under this project's names."""
    if any(name.startswith("encoder.blocks.") for name in state):
        kind = "a checkpoint of SIGMA's or VideoMAE's pretraining"
        if file.suffix == ".safetensors" and hub.is_ours(file):
            kind = "a model of this project"
        return kind, dict(state)
    if any(name.startswith("blocks.") for name in state):
        ours = {f"encoder.{n}": t for n, t in state.items() if not n.startswith(HEADS_OF)}
        return "an official fine-tuned checkpoint", _with_norm(ours, encoder)
    if any("encoder.layer." in name for name in state):
        ours = hugging_face.encoder_tensors(state)
        return "Hugging Face's VideoMAE", _with_norm(ours, encoder)
    raise unknown(state, file)


def unknown(state: Mapping[str, Tensor], file: Path) -> UserError:
    """Return the error for tensors that are no encoder's."""
    return UserError(
        f"this is no encoder that can be read here; its tensors are {some(state)}",
        place=str(file),
        remedy="give a model of this project, of SIGMA, of VideoMAE, or its Hugging Face directory",
    )


def _with_norm(state: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Add the last LayerNorm, as it begins, where fine-tuning has put one after the mean."""
    if not any(name.startswith("encoder.norm.") for name in state):
        state["encoder.norm.weight"] = torch.ones(encoder.width)
        state["encoder.norm.bias"] = torch.zeros(encoder.width)
        print("note: these weights have no last LayerNorm: it begins anew", file=sys.stderr)
    return state


def warn_of_zero_biases(encoder: Encoder, path: Path) -> None:
    """Say where no block has a query or value bias: a faulty export loses them without a word."""
    biases = [
        value for name, value in encoder.named_parameters() if name.endswith(("q_bias", "v_bias"))
    ]
    if not any(bool(value.any()) for value in biases):
        print(
            f"warning: all query and value biases in {path} are zero, as after an export by a "
            "version of Transformers that loses them",
            file=sys.stderr,
        )
