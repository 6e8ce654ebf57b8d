"""A directory that Hugging Face Transformers loads as VideoMAE, and whether it does so rightly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.configuration.known_weights import CLIP_KEY
from pipeline.errors import UserError, how_to_install
from pipeline.method.pixels import MEAN, STD, denormalise, normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import PixelTarget
from pipeline.method.targets.projection import Pixels
from pipeline.runtime.files import write_json
from pipeline.use.exporting.comparison import Expected, largest
from pipeline.use.exporting.state_dicts import head_tensors
from pipeline.weights import hugging_face
from pipeline.weights.video_model import VideoModel

WORKING = ("5.23.0", "4.57.3")  # releases of Transformers that were tried and keep the biases
NEW = {"classifier.weight", "classifier.bias", "fc_norm.weight", "fc_norm.bias"}


def write(model: VideoModel, folder: Path) -> list[str]:
    """Write `config.json`, `model.safetensors` and the image processor; return the files' names.

    With its decoder where that predicts pixels, and with its head where it has one: these are what
    VideoMAE has a place for.
    """
    config, tensors = _config(model), _tensors(model)
    write_json(folder / "config.json", config)
    weights = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _processor(model.clip.size).save_pretrained(folder)
    return sorted(path.name for path in folder.iterdir())


def check(folder: Path, expected: Expected, model: VideoModel) -> dict[str, float]:
    """Load what was written as its users will; return the largest difference of each output.

    Raises:
        UserError: where the installed Transformers loses the biases, or asks for tensors that are
            not there.
    """
    transformers = _library()
    differences: dict[str, float] = {}
    pixels = expected.videos.transpose(1, 2)  # theirs are B,T,3,H,W
    with _quiet(transformers), torch.inference_mode():
        bare = _loaded(transformers.VideoMAEModel, folder, set())
        differences["VideoMAEModel's tokens"] = largest(
            expected.tokens, bare(pixel_values=pixels).last_hidden_state
        )
        _refuse_lost_biases(bare, model, transformers.__version__)
        may_miss = set() if expected.logits is not None else NEW
        headed = _loaded(transformers.VideoMAEForVideoClassification, folder, may_miss)
        tokens = headed.videomae(pixel_values=pixels).last_hidden_state
        differences["VideoMAEForVideoClassification's tokens"] = largest(expected.tokens, tokens)
        if expected.logits is not None:
            logits = headed(pixel_values=pixels).logits
            differences["VideoMAEForVideoClassification's logits"] = largest(
                expected.logits, logits
            )
        differences["the image processor's pixels"] = _processed(
            transformers, folder, expected.videos
        )
    return differences


def _config(model: VideoModel) -> dict[str, Any]:
    kind, pools = "VideoMAEModel", not isinstance(model.encoder.norm, nn.LayerNorm)
    if _has_pixel_decoder(model):
        kind = "VideoMAEForPreTraining"
    labels: dict[str, Any] = {}
    if model.classifier is not None:
        kind, classes = "VideoMAEForVideoClassification", model.classifier.head.out_features
        names = model.labels or [f"LABEL_{k}" for k in range(classes)]
        labels = {
            "id2label": {str(k): name for k, name in enumerate(names)},
            "label2id": {name: k for k, name in enumerate(names)},
        }
    return {
        **hugging_face.config(model.settings, model.clip),
        **labels,
        "architectures": [kind],
        CLIP_KEY: {
            "stride": model.clip.stride,
            "sampling": model.clip.sampling,
            **({"fps": model.fps} if model.fps else {}),
        },
        "layer_norm_eps": model.layer_norm_eps,
        "use_mean_pooling": pools,
    }


def _tensors(model: VideoModel) -> dict[str, Tensor]:
    if isinstance(model, SigmaModel) and _has_pixel_decoder(model):
        return hugging_face.tensors(model)
    state = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    return hugging_face.renamed(state) | head_tensors(model, "classifier")


def _has_pixel_decoder(model: VideoModel) -> bool:
    target = model.target if isinstance(model, SigmaModel) else None
    return isinstance(target, Pixels) and target.settings == PixelTarget()


def _processor(size: int) -> Any:
    return _library().VideoMAEImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def _processed(transformers: Any, folder: Path, videos: Tensor) -> float:
    """Give the processor pictures that have the model's size already: it is to change none."""
    scaled = denormalise(videos).mul(255).round().clamp(0, 255).to(torch.uint8)
    bytes_ = scaled.permute(0, 2, 3, 4, 1).contiguous()  # B,T,H,W,3
    processor = transformers.VideoMAEImageProcessor.from_pretrained(folder)
    frames = [list(np.ascontiguousarray(video)) for video in bytes_.numpy()]
    made = processor(frames, return_tensors="pt")["pixel_values"]
    return largest(normalise(bytes_).transpose(1, 2), torch.as_tensor(made))


def _loaded(kind: Any, folder: Path, may_miss: set[str]) -> Any:
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    missing = set(report["missing_keys"]) - may_miss
    # Where the biases go under another name, their own names are missing: told below.
    missing = {name for name in missing if not name.endswith((".bias", "_bias"))}
    if missing:
        raise UserError(f"Transformers misses {sorted(missing)[0]} in what was written")
    return model.eval()


def _refuse_lost_biases(theirs: nn.Module, model: VideoModel, version: str) -> None:
    """Some releases read `q_bias` and `v_bias` under no name, and begin with zeros."""
    ends = ("query.bias", "value.bias", "q_bias", "v_bias")
    kept = [value for name, value in theirs.named_parameters() if name.endswith(ends)]
    ours = [
        value
        for name, value in model.encoder.named_parameters()
        if name.endswith(("q_bias", "v_bias"))
    ]
    if any(bool(value.any()) for value in ours) and not any(bool(v.any()) for v in kept):
        raise UserError(
            f"Transformers {version} loads VideoMAE's query and value biases as zeros, without a "
            "word: its features would be others",
            remedy=f"pip install transformers=={WORKING[0]} (or {WORKING[1]}); nothing was written",
        )


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError("Transformers is not installed", remedy=how_to_install("export")) from None
    return transformers


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without its progress bars and reports: what matters of them is checked here."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
