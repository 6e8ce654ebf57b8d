"""Writing and reading models: this project's files, and official SIGMA / VideoMAE checkpoints.

A file of this project is safetensors with the official parameter names, and the run's and the
clip's configuration as JSON in its metadata. Loading is strict throughout: a tensor that is
missing, left over or of another shape is an error that names it.

    from pipeline.weights import hub
    model = hub.load("model.safetensors")  # or any other checkpoint (`load`)
    features = model.embed("clip.mp4")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.configuration import build, known_weights
from pipeline.configuration.known_weights import MODEL_FORMAT, SavedModel, Seen
from pipeline.configuration.schema import Clip, Run
from pipeline.errors import UserError
from pipeline.method.pixels import MEAN, STD
from pipeline.method.sigma import SigmaModel
from pipeline.method.vit import Encoder
from pipeline.runtime.files import atomic_path
from pipeline.weights import checkpoint_files, geometry
from pipeline.weights.classifier import Classifier

if TYPE_CHECKING:
    from pipeline.weights.video_model import VideoModel

SHOWN = 10  # names in one error message


def save(
    path: Path | str, model: SigmaModel, run: Run, clip: Clip, fps: float | None = None
) -> None:
    """Write the weights of `model` and the configuration that rebuilds it, atomically.

    Equal models give equal bytes. A frozen teacher is left out; its digest is noted.

    Args:
        fps: frames a second of the videos that it was trained on; None: of each its own.
    """
    config: dict[str, Any] = {
        "format": MODEL_FORMAT,
        "run": run.model_dump(mode="json"),
        "clip": clip.model_dump(mode="json"),
        "seen": seen(fps).model_dump(mode="json"),
    }
    if model.teacher_digest is not None:
        config["teacher_sha256"] = model.teacher_digest
    tensors = {
        official_name(model, name): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        # One key only: the order of several in the file is not defined.
        save_file(tensors, temporary, metadata={"config": json.dumps(config, sort_keys=True)})


def seen(fps: float | None) -> Seen:
    """Return what every model of this project saw beside its clips' geometry."""
    return Seen(fps=fps, mean=MEAN, std=STD)


def read_saved(path: Path | str) -> SavedModel:
    """The configuration in a file that `save` wrote, which its tensors' shapes bear out.

    Raises:
        UserError: for any other file, and where pixels were normalised in another way.
    """
    config, shapes = known_weights.header(path)
    if config.get("format") != MODEL_FORMAT:
        raise UserError(
            f"{path} does not hold a model of this project (no configuration in its metadata)",
            remedy="load other checkpoints with pipeline.weights.hub.load",
        )
    saved = known_weights.checked(SavedModel, config, path)
    geometry.check_pretraining(saved.run, saved.clip, shapes, str(path))
    refuse_other_pixels(saved.seen, path)
    return saved


def read_config(path: Path | str) -> tuple[Run, Clip]:
    """The run and the clip of `read_saved`."""
    saved = read_saved(path)
    return saved.run, saved.clip


def refuse_other_pixels(seen: Seen, path: Path | str) -> None:
    """Refuse a file that says its pictures were normalised otherwise than here."""
    for key, theirs, ours in (("mean", seen.mean, MEAN), ("std", seen.std, STD)):
        if theirs is not None and any(abs(a - b) > 1e-6 for a, b in zip(theirs, ours, strict=True)):
            problem = f"its pictures are normalised with {key} {theirs}, here with {ours}"
            raise UserError(problem, place=str(path))


def is_ours(path: Path | str) -> bool:
    """Whether `save` wrote this safetensors file."""
    return known_weights.header(path)[0].get("format") == MODEL_FORMAT


def load(
    path: Path | str,
    *,
    heads: int | None = None,
    frames: int | None = None,
    size: int | None = None,
    stride: int | None = None,
    sampling: Literal["dense", "per_segment"] | None = None,
    fps: float | None = None,
) -> VideoModel:
    """Read any checkpoint of this project, of SIGMA, of VideoMAE or of Hugging Face's VideoMAE.

    On CPU and in evaluation mode. What a checkpoint of this project's pretraining gives is a
    `SigmaModel`, too.

    Args:
        path: a file, a directory that Transformers wrote, or a repository `OWNER/NAME` of a hub.
        heads: attention heads, where the file does not say (`pipeline.weights.geometry`); so, too,
            `frames` of a clip, `size` in pixels, `stride`, `sampling`, and `fps`, the frames a
            second that videos are brought to.

    Raises:
        UserError: where the file is none of these, or its tensors do not fit.
    """
    from pipeline.weights import video_model

    hints = video_model.Hints(heads, frames, size, stride, sampling, fps)
    if Path(path).suffix == ".safetensors" and Path(path).is_file() and is_ours(path):
        saved = read_saved(path)
        sigma = build.sigma_model(
            saved.run.model,
            saved.run.objective,
            saved.clip,
            load_target=False,
            cls=video_model.PretrainedModel,
        )
        model = cast("video_model.PretrainedModel", sigma)
        load_official(model, load_file(path), place=str(path))
        return model.opened(saved, Path(path), hints).eval()
    return video_model.opened(str(path), hints)


def load_pretraining(path: Path | str, *, load_teacher: bool = False) -> SigmaModel:
    """Read a model that `save` wrote, on CPU and in evaluation mode; no other file will do.

    The frozen teacher of a `frozen` target is only needed for training, so not loaded by default.
    """
    run, clip = read_config(path)
    model = build.sigma_model(run.model, run.objective, clip, load_target=load_teacher)
    load_official(model, load_file(path), place=str(path))
    return model.eval()


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of any checkpoint (`checkpoint_files.read`)."""
    return checkpoint_files.read(path)[0]


def load_official(
    model: SigmaModel | Classifier, state: Mapping[str, Tensor], *, place: str = "state dict"
) -> None:
    """Fill `model` from tensors under official names, pretraining or fine-tuning, strictly.

    Raises `UserError` naming every parameter that is missing, left over, or of another shape.
    """
    names = {official_name(model, name): name for name in model.state_dict()}
    _load(model, names, state, place)
    if isinstance(model, SigmaModel):
        model.follow()


def load_pretrained_encoder(
    encoder: Encoder, state: Mapping[str, Tensor], *, place: str = "state dict"
) -> None:
    """Fill an encoder from a pretraining checkpoint; its decoder and head are passed over.

    The last LayerNorm is passed over too where `encoder` has none (fine-tuning).
    """
    own = encoder.state_dict()
    prefix = "encoder."
    theirs = {name: value for name, value in state.items() if name.startswith(prefix)}
    if "norm.weight" not in own:
        theirs = {n: v for n, v in theirs.items() if not n.startswith(f"{prefix}norm.")}
    _load(encoder, {prefix + name: name for name in own}, theirs, place)


def load_pretrained_decoder(
    model: SigmaModel, state: Mapping[str, Tensor], *, place: str = "state dict"
) -> None:
    """Fill a model's decoder from a pretraining checkpoint, strictly.

    That is the map from the encoder, the mask tokens, the blocks and their last LayerNorm; not the
    linear map to the targets, which belongs to these.
    """
    names = {name: name for name in model.state_dict() if _is_of_decoder(name)}
    _load(model, names, {n: value for n, value in state.items() if _is_of_decoder(n)}, place)


def _is_of_decoder(name: str) -> bool:
    parts = ("encoder_to_decoder.", "mask_token", "decoder.", "learned.")
    return name.startswith(parts) and not name.startswith("decoder.head.")


def official_name(model: nn.Module, name: str) -> str:
    """The official checkpoints' name of a parameter: the same but for three prefixes."""
    if isinstance(model, Classifier):
        return name.removeprefix("encoder.")
    return name.replace("target.network.", "head.", 1)


def _load(
    module: nn.Module, names: Mapping[str, str], state: Mapping[str, Tensor], place: str
) -> None:
    own = module.state_dict()
    faults = [f"missing: {name}" for name in names if name not in state]
    faults += [f"not of this model: {name}" for name in state if name not in names]
    faults += [
        f"{name}: shape {tuple(state[name].shape)}, expected {tuple(own[ours].shape)}"
        for name, ours in names.items()
        if name in state and state[name].shape != own[ours].shape
    ]
    if faults:
        shown = "\n  ".join(faults[:SHOWN])
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(
            f"the weights do not fit the model:\n  {shown}{more}",
            place=place,
            remedy="build the model that the checkpoint was trained as (model, objective, clip)",
        )
    given = {ours: state[name] for name, ours in names.items()}
    module.load_state_dict(own | given)
