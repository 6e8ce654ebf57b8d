"""A model that somebody wants to use: from any checkpoint, and from a video file to its features.

No stage of the pipeline embeds videos, so this module is none of their sources
(`pipeline.configuration.stages`).

Letters: B clips of a batch, C clips of a video, N tubes of a clip, D width of the encoder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.clips.pixels import DEVIATION, MEAN, normalise
from pipeline.configuration.schema import Clip, Model, Run
from pipeline.errors import UserError
from pipeline.files import read_json, sha256_file
from pipeline.models import checkpoint_files, encoders, geometry, hub, hugging_face
from pipeline.models.classifier import Classifier
from pipeline.models.encoders import Origin
from pipeline.models.geometry import Hints as Hints
from pipeline.models.positions import sinusoid_positions
from pipeline.models.sigma import SigmaModel
from pipeline.models.tubes import TubeGrid
from pipeline.models.video_clips import Look, decoding, look
from pipeline.models.vit import Encoder
from pipeline.records import Outcome
from pipeline.videos.transcode import Segment

ENCODER_FORMAT = "sigma-pipeline encoder 1"  # a file that `exporting` writes
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HEADS = ("fc_norm.", "head.")


class VideoModel(nn.Module):
    """An encoder, the clips that it was trained on, and a linear head where the file has one."""

    encoder: Encoder
    settings: Model
    clip: Clip
    origin: Origin
    classifier: Classifier | None  # without a default: a class's own would hide the module
    labels: tuple[str, ...] = ()  # of the classifier's outputs, where they are known

    @property
    def sha256(self) -> str:
        """The checkpoint's digest; of several files: that of the lines `digest  name`."""
        return digest(self.origin.sha256)

    @property
    def layer_norm_eps(self) -> float:
        """Hugging Face's configuration may say another than this project's 1e-6."""
        return float(cast(nn.LayerNorm, self.encoder.get_submodule("blocks.0.norm1")).eps)

    @property
    def fc_norm_eps(self) -> float | None:
        """The same of the norm in front of the head; None without a head."""
        if self.classifier is None:
            return None
        return float(cast(nn.LayerNorm, self.classifier.fc_norm).eps)

    def tokens(self, videos: Tensor) -> Tensor:
        """Features B,N,D of each tube of normalised videos B,3,T,H,W."""
        tokens: Tensor = self.encoder(videos)
        return tokens

    def pooled(self, videos: Tensor) -> Tensor:
        """Features B,D: the mean over tubes; of a fine-tuned model what its head is given."""
        if self.classifier is not None:
            return self.classifier.features(videos)
        return self.tokens(videos).float().mean(1)

    def embed(
        self,
        video: Path | str,
        *,
        clips: int = 1,
        per_tube: bool = False,
        start: float | None = None,
        end: float | None = None,
        short_side: int | None = None,
        time_limit_s: float | None = None,
    ) -> Tensor:
        """Features C,D of a video file, or C,N,D per tube; float32, on the CPU.

        Args:
            video: anything that the decode stage accepts; it is decoded in a process of its own.
            clips: C, spread evenly over the video.
            per_tube: all tubes (frames first, then rows, then columns), not their mean.
            start: of a segment, in seconds; so, too, `end`.
            short_side: pixels to which pictures are scaled first; None: the clip's size.
            time_limit_s: for decoding.

        Raises:
            UserError: where the video cannot be used, with the reason.
        """
        settings = decoding(self.clip, short_side=short_side, time_limit_s=time_limit_s)
        found = look(Path(video), Look(self.clip, settings, clips), Segment(start, end))
        if found.outcome is not Outcome.OK:
            raise UserError(
                f"the video cannot be used ({found.outcome}): {found.reason}", place=str(video)
            )
        device = self.encoder.patch_embed.proj.weight.device
        with torch.no_grad():
            made = normalise(torch.from_numpy(found.videos).to(device))
            return (self.tokens(made) if per_tube else self.pooled(made)).float().cpu()


class PretrainedModel(SigmaModel, VideoModel):
    """A model of this project's pretraining, opened for use."""

    def opened(self, run: Run, clip: Clip, path: Path, hints: Hints) -> PretrainedModel:
        """Say what was opened; take the clips that the user asks for."""
        self.settings, self.classifier = run.model, None
        self.origin = Origin("a model of this project", str(path), {path.name: sha256_file(path)})
        _refuse_heads(hints, run.model.heads, path)
        changes = {k: v for k, v in vars(hints).items() if v is not None and k != "heads"}
        self.clip = clip.model_copy(update=changes)
        _fit(self.encoder, self.clip, run.model)
        return self


class LoadedModel(VideoModel):
    """An encoder, perhaps with its head, of a checkpoint that others wrote."""

    def __init__(
        self, shape: geometry.Geometry, origin: Origin, *, final_norm: bool, classes: int
    ) -> None:
        super().__init__()
        self.settings, self.clip, self.origin = shape.model, shape.clip, origin
        self.classifier = Classifier(shape.model, shape.clip, classes) if classes else None
        if self.classifier is not None:
            self.encoder = self.classifier.encoder
        else:
            grid = TubeGrid.from_clip(shape.clip, shape.model.tube)
            self.encoder = Encoder(shape.model, grid, final_norm=final_norm)


def opened(path: str, hints: Hints) -> LoadedModel:
    """Load a checkpoint that is not of this project's pretraining; on CPU, for evaluation.

    Raises:
        UserError: where it is none that can be read here, or its tensors do not fit.
    """
    place = _fetched(path)
    files = encoders.weight_files(place)
    state, arguments = _read(files)
    config = _config(place, files[0])
    kind, tensors = _recognised(state, config, files[0])
    said: dict[str, Any] = geometry.of_arguments(arguments)
    if config.get("format") == ENCODER_FORMAT:
        shape = geometry.Geometry(
            Model.model_validate(config["model"]), Clip.model_validate(config["clip"])
        )
        _refuse_heads(hints, shape.model.heads, place)
        asked = {k: v for k, v in vars(hints).items() if v is not None and k != "heads"}
        shape = dataclasses.replace(shape, clip=shape.clip.model_copy(update=asked))
    else:
        if config:
            said = hugging_face.said_by(config, place)
            _refuse_heads(hints, said.get("heads"), place)
            _check_processor(place)
        shape = geometry.from_state(tensors, said, hints, place=str(place))
    origin = Origin(kind, path, {file.name: sha256_file(file) for file in files})
    head = tensors.get("head.weight")
    has_norm = "encoder.norm.weight" in tensors
    classes = 0 if head is None or has_norm else len(head)
    model = LoadedModel(shape, origin, final_norm=has_norm, classes=classes)
    _fill(model, tensors, str(place))
    model.labels = tuple(config.get("labels") or _labels(config, classes))
    _set_epsilons(model, config)
    _say(shape.notes, path)
    encoders.warn_of_zero_biases(model.encoder, place)
    return model.eval()


def digest(sha256: Mapping[str, str]) -> str:
    """One digest of the files of a checkpoint, given theirs by name."""
    if len(sha256) == 1:
        return next(iter(sha256.values()))
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(sha256.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _fetched(path: str) -> Path:
    """Return the checkpoint's place on this machine; a hub's repository is fetched first."""
    if Path(path).exists() or not REPOSITORY.fullmatch(path):
        return Path(path)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(
            "there is no such checkpoint here, and huggingface-hub is not installed",
            place=path,
            remedy="pip install 'sigma-pipeline[export]'",
        ) from None
    wanted = ["*.json", "*.safetensors", "pytorch_model.bin"]
    try:
        return Path(snapshot_download(path, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise UserError(
            f"there is no such checkpoint here, nor on the hub: {lines[0] if lines else error!r}",
            place=path,
        ) from None


def _read(files: Sequence[Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state: dict[str, Tensor] = {}
    arguments: dict[str, Any] = {}
    for file in files:
        tensors, said = checkpoint_files.read(file)
        state |= tensors
        arguments |= said
    return state, arguments


def _config(place: Path, file: Path) -> dict[str, Any]:
    """Return Hugging Face's configuration beside the weights, or ours within them."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as handle:
            text = (handle.metadata() or {}).get("config", "{}")
        within = json.loads(text) if text.startswith("{") else {}
        if within.get("format") == ENCODER_FORMAT:
            return dict(within)
    beside = (place if place.is_dir() else place.parent) / "config.json"
    if not beside.is_file():
        return {}
    try:
        content = read_json(beside)
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", place=str(beside)) from None
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != "videomae" and place.is_dir():
        raise UserError(f"a model of type {kind!r}, not 'videomae'", place=str(beside))
    return content if kind == "videomae" else {}


def _recognised(
    state: Mapping[str, Tensor], config: Mapping[str, Any], file: Path
) -> tuple[str, dict[str, Tensor]]:
    """Say what the tensors are, and return them as `encoder.NAME`, `fc_norm.NAME`, `head.NAME`."""
    if config.get("format") == ENCODER_FORMAT:
        return str(config["kind"]), dict(state)
    if any(name.startswith("encoder.blocks.") for name in state):
        whole = {name: value for name, value in state.items() if not name.startswith("head.")}
        return "a checkpoint of SIGMA's or VideoMAE's pretraining", whole
    if any(name.startswith("blocks.") for name in state):
        named = {n if n.startswith(HEADS) else f"encoder.{n}": t for n, t in state.items()}
        return "an official fine-tuned checkpoint", named
    if any("encoder.layer." in name for name in state):
        if not config:
            raise UserError(
                "weights of Hugging Face's VideoMAE without their config.json",
                place=str(file),
                remedy="give the directory that holds both",
            )
        return "Hugging Face's VideoMAE", {
            **hugging_face.encoder_tensors(state),
            **hugging_face.head_tensors(state),
        }
    raise encoders.unknown(state, file)


def _fill(model: LoadedModel, tensors: Mapping[str, Tensor], place: str) -> None:
    if model.classifier is None:
        hub.load_pretrained_encoder(model.encoder, tensors, place=place)
        return
    names = (n.removeprefix("encoder.") for n in tensors)
    hub.load_official(
        model.classifier, dict(zip(names, tensors.values(), strict=True)), place=place
    )


def _labels(config: Mapping[str, Any], classes: int) -> list[str]:
    """Return the names of classes in Hugging Face's configuration, where all have one."""
    names = config.get("id2label") or {}
    found = [str(names[str(k)]) for k in range(classes) if str(k) in names]
    invented = [f"LABEL_{k}" for k in range(classes)]
    return found if len(found) == classes and found != invented else []


def _set_epsilons(model: LoadedModel, config: Mapping[str, Any]) -> None:
    """Take other epsilons for LayerNorm, where the configuration has some."""
    if (epsilon := config.get("layer_norm_eps")) is not None:
        for module in model.encoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = float(epsilon)
    if model.classifier is not None and config:
        norm = cast(nn.LayerNorm, model.classifier.fc_norm)
        norm.eps = float(config.get("fc_norm_eps", hugging_face.FC_NORM_EPS))


def _fit(encoder: Encoder, clip: Clip, model: Model) -> None:
    """Have an encoder see clips of another length or size: its positions are sinusoids."""
    grid = TubeGrid.from_clip(clip, model.tube)
    if grid != encoder.grid:
        encoder.grid = grid
        encoder.positions = sinusoid_positions(grid.count, encoder.width)


def _refuse_heads(hints: Hints, heads: int | None, place: Path) -> None:
    if None not in (hints.heads, heads) and hints.heads != heads:
        raise UserError(f"the model has {heads} heads, not {hints.heads}", place=str(place))


def _check_processor(place: Path) -> None:
    """Refuse a model that was trained on pixels that are normalised in another way."""
    file = (place if place.is_dir() else place.parent) / "preprocessor_config.json"
    if not file.is_file():
        return
    content = read_json(file)
    for key, ours in (("image_mean", MEAN), ("image_std", DEVIATION)):
        theirs = content.get(key, ours)
        if any(abs(a - b) > 1e-3 for a, b in zip(theirs, ours, strict=True)):
            raise UserError(
                f"its pictures are normalised with {key} {theirs}, here with {list(ours)}",
                place=str(file),
                remedy="use this model through Transformers",
            )


def _say(notes: Sequence[str], path: str) -> None:
    for note in notes:
        print(f"note: {path}: {note} (--frames, --size, --stride say otherwise)", file=sys.stderr)
