"""Models as plain tensors: under official names for this project, and as timm names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.configuration.known_weights import ENCODER_FORMAT
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.method.tubes import CHANNELS, TubeGrid
from pipeline.use.exporting.comparison import Expected, largest
from pipeline.weights import geometry, hub
from pipeline.weights.video_model import VideoModel

FILE = "model.safetensors"


def write_safetensors(model: VideoModel, folder: Path) -> list[str]:
    """Write `model.safetensors`, which `hub.load` reads without being told anything.

    A model of this project's pretraining is written whole; of any other the encoder, and its head
    where it has one, under the official names.
    """
    if isinstance(model, SigmaModel):
        saved = hub.read_saved(model.origin.path)
        hub.save(folder / FILE, model, saved.run, saved.clip, saved.seen.fps)
        return [FILE]
    tensors = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    tensors |= head_tensors(model)
    config = {
        "format": ENCODER_FORMAT,
        "kind": model.origin.kind,
        "model": model.settings.model_dump(mode="json"),
        "clip": model.clip.model_dump(mode="json"),
        "seen": hub.seen(model.fps).model_dump(mode="json"),
        "labels": list(model.labels),
        "layer_norm_eps": model.layer_norm_eps,
        "fc_norm_eps": model.fc_norm_eps,
    }
    metadata = {"config": json.dumps(config, sort_keys=True)}
    save_file(_plain(tensors), folder / FILE, metadata=metadata)
    return [FILE]


def check_safetensors(folder: Path, expected: Expected) -> dict[str, float]:
    """Load it as its users will; return the largest difference of each output."""
    model = hub.load(folder / FILE)
    with torch.inference_mode():
        differences = {
            "tokens by hub.load": largest(expected.tokens, model.tokens(expected.videos))
        }
        if expected.logits is not None and model.classifier is not None:
            logits = model.classifier(expected.videos)
            differences["logits by hub.load"] = largest(expected.logits, logits)
    return differences


def write_timm(model: VideoModel, folder: Path) -> list[str]:
    """Write `model.safetensors` with the names and shapes of timm's `VisionTransformer`.

    One `qkv.bias` with zeros for the keys, and the positions as `pos_embed` (1,N,D). The weights
    of the tubes are a 3D convolution's (D,3,t,h,w), for which timm has no layer of its own:
    `TubeEmbed` is one. `config.json` has the arguments of both.
    """
    if model.encoder.learned is not None:
        raise UserError("timm's format has no place for learned positions", place="model.positions")
    geometry.refuse_subtracted_background(model.settings, "timm's transformer")
    tensors: dict[str, Tensor] = {}
    for name, value in model.encoder.state_dict().items():
        if name.endswith(("q_bias", "v_bias")):
            continue
        tensors[name] = value
        if name.endswith("attn.qkv.weight"):
            attention = model.encoder.get_submodule(name.removesuffix(".qkv.weight"))
            q, v = cast(Tensor, attention.q_bias), cast(Tensor, attention.v_bias)
            tensors[name.replace("weight", "bias")] = torch.cat([q, torch.zeros_like(q), v])
    tensors["pos_embed"] = model.encoder.positions[None]
    tensors |= head_tensors(model)
    save_file(_plain(tensors), folder / FILE, {"format": "pt"})
    text = json.dumps(timm_arguments(model), indent=1, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    return ["config.json", FILE]


def timm_arguments(model: VideoModel) -> dict[str, Any]:
    """Return the arguments of timm's `VisionTransformer`, and of the clip under `clip`."""
    settings, classifier = model.settings, model.classifier
    return {
        "embed_dim": settings.width,
        "depth": settings.depth,
        "num_heads": settings.heads,
        "mlp_ratio": settings.mlp_ratio,
        "class_token": False,
        "global_pool": "avg",
        "fc_norm": classifier is not None,
        "final_norm": classifier is not None or isinstance(model.encoder.norm, nn.LayerNorm),
        "num_classes": 0 if classifier is None else classifier.head.out_features,
        "norm_eps": model.layer_norm_eps,
        "fc_norm_eps": model.fc_norm_eps,
        "clip": {
            "frames": model.clip.frames,
            "size": model.clip.size,
            "tube": list(settings.tube),
            "stride": model.clip.stride,
            "sampling": model.clip.sampling,
            **hub.seen(model.fps).model_dump(mode="json"),
        },
    }


class TubeEmbed(nn.Module):
    """Tubes of videos B,3,T,H,W as timm's `embed_layer`: B,N,D."""

    def __init__(self, grid: TubeGrid, width: int) -> None:
        super().__init__()
        self.num_patches = grid.count
        self.proj = nn.Conv3d(CHANNELS, width, kernel_size=grid.tube, stride=grid.tube)

    def forward(self, videos: Tensor) -> Tensor:
        embedded: Tensor = self.proj(videos).flatten(2).transpose(1, 2)
        return embedded


def build_timm(arguments: dict[str, Any]) -> nn.Module:
    """Return timm's transformer of these `timm_arguments`, with new weights."""
    given = dict(arguments)
    clip, epsilon, last = given.pop("clip"), given.pop("norm_eps"), given.pop("fc_norm_eps")
    grid = TubeGrid.from_size(clip["frames"], clip["size"], clip["size"], tuple(clip["tube"]))

    def embed_layer(*, embed_dim: int, **_: Any) -> nn.Module:
        return TubeEmbed(grid, embed_dim)

    def norm_layer(width: int, **kind: Any) -> nn.Module:
        return nn.LayerNorm(width, eps=epsilon, **kind)

    from timm.models.vision_transformer import VisionTransformer  # takes seconds

    built: Any = VisionTransformer(embed_layer=embed_layer, norm_layer=norm_layer, **given)
    if last is not None:
        built.fc_norm.eps = last
    return cast(nn.Module, built)


def check_timm(folder: Path, expected: Expected) -> dict[str, float]:
    """Load it strictly into timm's transformer; return the largest difference of each output."""
    network: Any = build_timm(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    network.load_state_dict(load_file(folder / FILE), strict=True)
    network.eval()
    with torch.inference_mode():
        tokens = network.forward_features(expected.videos)
        pooled = network.forward_head(tokens, pre_logits=True)
        differences = {
            "timm's tokens": largest(expected.tokens, tokens),
            "timm's features": largest(expected.pooled, pooled),
        }
        if expected.logits is not None:
            differences["timm's logits"] = largest(expected.logits, network(expected.videos))
    return differences


def head_tensors(model: VideoModel, head: str = "head") -> dict[str, Tensor]:
    """Return the tensors of a model's classifier; `head` is what its linear layer is called."""
    if model.classifier is None:
        return {}
    parts = {"fc_norm": model.classifier.fc_norm, head: model.classifier.head}
    return {f"{p}.{n}": value for p, m in parts.items() for n, value in m.state_dict().items()}


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
