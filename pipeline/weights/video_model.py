"""A model that somebody wants to use: from any checkpoint, and from a video file to its features.

No stage of the pipeline embeds videos, so this module is none of their sources
(`pipeline.configuration.stages`).

Shapes: B clips of a batch, C clips of a video, N tubes of a clip, D width of the encoder.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline.configuration import build
from pipeline.configuration.known_weights import SavedEncoder, SavedModel, TheirConfig
from pipeline.configuration.schema import Clip, Model
from pipeline.data.decode.transcode import Segment
from pipeline.errors import UserError, how_to_install
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.vit import Encoder
from pipeline.runtime.files import sha256_file
from pipeline.weights import encoders, formats, geometry, hub, hugging_face, processor
from pipeline.weights.classifier import Classifier
from pipeline.weights.encoders import Origin
from pipeline.weights.geometry import Hints as Hints
from pipeline.weights.video_clips import ClipRequest, decoding, usable_clips

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class VideoModel(nn.Module):
    """An encoder, the clips that it was trained on, and a linear head where the file has one."""

    encoder: Encoder
    settings: Model
    clip: Clip
    origin: Origin
    classifier: Classifier | None  # without a default: a class's own would hide the module
    fps: float | None = None  # of the videos that it was trained on; None: of each its own
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
        """Features B,D: the encoder's; of a fine-tuned model what its head is given."""
        if self.classifier is not None:
            return self.classifier.features(videos)
        return self.encoder.pooled(videos)

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

        Videos are brought to the frame rate of those that the model was trained on (`fps`).

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
        settings = decoding(
            self.clip, short_side=short_side, fps=self.fps, time_limit_s=time_limit_s
        )
        request = ClipRequest(self.clip, settings, clips)
        decoded = usable_clips(Path(video), request, Segment(start, end))
        device = next(self.encoder.parameters()).device
        with torch.no_grad():
            made = normalise(torch.from_numpy(decoded.videos).to(device))
            return (self.tokens(made) if per_tube else self.pooled(made)).float().cpu()


class PretrainedModel(SigmaModel, VideoModel):
    """A model of this project's pretraining, opened for use."""

    def opened(self, saved: SavedModel, path: Path, hints: Hints) -> PretrainedModel:
        """Say what was opened; take the clips that the user asks for."""
        model = saved.run.model
        self.settings, self.classifier = model, None
        self.origin = Origin("a model of this project", str(path), {path.name: sha256_file(path)})
        _refuse_heads(hints, model.heads, path)
        self.clip = saved.clip.model_copy(update=hints.of_clip())
        self.fps = hints.fps or saved.seen.fps
        _fit(self.encoder, self.clip, model, path)
        return self


class LoadedModel(VideoModel):
    """An encoder, perhaps with its head, of a checkpoint that others wrote."""

    def __init__(
        self, shape: geometry.Geometry, origin: Origin, *, final_norm: bool, classes: int
    ) -> None:
        super().__init__()
        self.settings, self.clip, self.origin = shape.model, shape.clip, origin
        self.fps = shape.fps
        self.classifier = Classifier(shape.model, shape.clip, classes) if classes else None
        if self.classifier is not None:
            self.encoder = self.classifier.encoder
        else:
            self.encoder = build.encoder(shape.model, shape.clip, final_norm=final_norm)


def opened(path: str, hints: Hints) -> LoadedModel:
    """Load a checkpoint that is not of this project's pretraining; on CPU, for evaluation.

    Raises:
        UserError: where it is none that can be read here, or its tensors do not fit.
    """
    place = _fetched(path)
    checkpoint = encoders.read(place)
    tensors, config = checkpoint.tensors, checkpoint.config
    if checkpoint.format is formats.HUGGING_FACE and config is None:
        raise UserError(
            "weights of Hugging Face's VideoMAE without their config.json",
            place=path,
            remedy="give the directory that holds both",
        )
    known = {**checkpoint.clips, "positions": checkpoint.positions[0]}
    if checkpoint.model is not None:
        clip, notes = geometry.clip_of(known, hints)
        shape = geometry.Geometry(checkpoint.model, clip, hints.fps, notes)
    else:
        shape = _shape(tensors, config, known, hints, place)
    digests = {file.name: sha256_file(file) for file in checkpoint.files}
    origin = Origin(checkpoint.kind, path, digests)
    head = tensors.get("head.weight")
    has_norm = "encoder.norm.weight" in tensors
    classes = 0 if head is None or has_norm else len(head)
    model = LoadedModel(shape, origin, final_norm=has_norm, classes=classes)
    _fill(model, tensors, str(place))
    model.labels = _labels(config, classes)
    _set_epsilons(model, config)
    _say(shape.notes, path)
    encoders.warn_of_zero_biases(model.encoder, place)
    return model.eval()


def _shape(
    tensors: Mapping[str, Tensor],
    config: SavedEncoder | TheirConfig | None,
    metadata: dict[str, Any],
    hints: Hints,
    place: Path,
) -> geometry.Geometry:
    """Return the encoder's shape and its clips, from what says most of them."""
    if isinstance(config, SavedEncoder):
        _refuse_heads(hints, config.model.heads, place)
        hub.refuse_other_pixels(config.seen, place)
        clip = config.clip.model_copy(update=hints.of_clip())
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        geometry.check_encoder(config.model, clip, shapes, str(place))
        return geometry.Geometry(config.model, clip, hints.fps or config.seen.fps)
    if config is None:
        return geometry.from_state(tensors, metadata, hints, place=str(place))
    _refuse_heads(hints, config.num_attention_heads, place)
    processor.check(place, config.image_size)
    metadata = {"heads": config.num_attention_heads, **config.seen()}
    shape = geometry.from_state(tensors, metadata, hints, place=str(place))
    theirs = config.model()
    for key in ("tube", "width", "depth", "mlp_ratio"):
        if getattr(theirs, key) != getattr(shape.model, key):
            raise UserError(
                f"config.json is another model's: {key} {getattr(theirs, key)}, where the weights "
                f"have {getattr(shape.model, key)}",
                place=str(place),
            )
    return shape


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
            remedy=how_to_install("export"),
        ) from None
    patterns = ["*.json", "*.safetensors", "pytorch_model.bin"]
    try:
        return Path(snapshot_download(path, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines()
        raise UserError(
            f"there is no such checkpoint here, nor on the hub: {lines[0] if lines else error!r}",
            place=path,
        ) from None


def _fill(model: LoadedModel, tensors: Mapping[str, Tensor], place: str) -> None:
    if model.classifier is None:
        hub.load_pretrained_encoder(model.encoder, tensors, place=place)
        return
    names = (n.removeprefix("encoder.") for n in tensors)
    hub.load_official(
        model.classifier, dict(zip(names, tensors.values(), strict=True)), place=place
    )


def _labels(config: SavedEncoder | TheirConfig | None, classes: int) -> tuple[str, ...]:
    """Return the names of classes, where all have one."""
    if isinstance(config, SavedEncoder):
        return config.labels if len(config.labels) == classes else ()
    names = (config.id2label if config else None) or {}
    labels = tuple(str(names[str(k)]) for k in range(classes) if str(k) in names)
    invented = tuple(f"LABEL_{k}" for k in range(classes))
    return labels if len(labels) == classes and labels != invented else ()


def _set_epsilons(model: LoadedModel, config: SavedEncoder | TheirConfig | None) -> None:
    """Take other epsilons for LayerNorm, where the configuration has some."""
    if config is None:
        return
    if (epsilon := config.layer_norm_eps) is not None:
        for module in model.encoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = epsilon
    if model.classifier is not None:
        norm = cast(nn.LayerNorm, model.classifier.fc_norm)
        norm.eps = config.fc_norm_eps or hugging_face.FC_NORM_EPS


def _fit(encoder: Encoder, clip: Clip, model: Model, path: Path) -> None:
    """Have an encoder see clips of another length or size: its positions are computed."""
    shapes = {f"encoder.{name}": tuple(each.shape) for name, each in encoder.state_dict().items()}
    geometry.check_encoder(model, clip, shapes, str(path))
    grid = build.tube_grid(model, clip)
    if grid != encoder.grid:
        encoder.use_grid(grid)


def _refuse_heads(hints: Hints, heads: int | None, place: Path) -> None:
    if None not in (hints.heads, heads) and hints.heads != heads:
        raise UserError(f"the model has {heads} heads, not {hints.heads}", place=str(place))


def _say(notes: Sequence[str], path: str) -> None:
    for note in notes:
        print(f"note: {path}: {note} (--frames, --size, --stride say otherwise)", file=sys.stderr)
