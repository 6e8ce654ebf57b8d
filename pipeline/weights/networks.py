"""Networks of Transformers and timm that can stand in an encoder's place, and their settings.

Their folders are told by `config.json`, which Transformers itself reads: it knows the defaults of
what a file leaves out. No tensor is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, how_to_install
from pipeline.method.choices import Pooling

Channels = tuple[float, float, float]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Of `config.json`, what says nothing of the network.
WITHOUT_EFFECT = {
    *("transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype"),
    *("id2label", "label2id", "problem_type", "stage_names", "out_features", "out_indices"),
}


@dataclass(frozen=True)
class NetworkKind:
    """A kind of network, by the `model_type` of its configuration."""

    model: str  # class of the library
    normalisation: tuple[Channels, Channels] = IMAGENET  # where no preprocessor says another
    extra_tokens: int = 1  # before those of patches, registers not counted
    of_videos: bool = False
    interpolates: bool = False  # it has to be told to bring its positions to other sizes
    # of its configuration, whatever it says, where its own pooling is not asked for
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of its class
    # beginnings of names in its files that are of other parts: texts, heads, a predictor
    passed_over: tuple[str, ...] = ("classifier.", "pooler.")
    pooling_parts: tuple[str, ...] = ()  # those that its own pooling alone needs
    # which of its outputs is its own pooling of an image; none: the class token
    pooled: str = ""
    library_type: str = ""  # its own `model_type`, where ours is another

    @property
    def pools(self) -> bool:
        """Whether it has a pooling of its own."""
        return bool(self.pooled or self.extra_tokens)


TEXTS = ("text_model.", "text_projection.", "logit_scale", "logit_bias")
PROJECTION = "visual_projection."
CLIP_PROJECTION = 512  # its width where a file says none
KINDS = {
    "vjepa2": NetworkKind(
        "VJEPA2Model",
        extra_tokens=0,
        of_videos=True,
        passed_over=("predictor.", "classifier.", "pooler."),
    ),
    "vjepa2_1": NetworkKind(  # V-JEPA 2 but for its attention (`vjepa2_attention`)
        "VJEPA2Model", library_type="vjepa2", extra_tokens=0, of_videos=True
    ),
    "vit": NetworkKind(  # DINO, and many others
        "ViTModel", interpolates=True, options={"add_pooling_layer": False}
    ),
    "dinov2": NetworkKind("Dinov2Model"),
    "dinov2_with_registers": NetworkKind("Dinov2WithRegistersModel"),
    "dinov3_vit": NetworkKind("DINOv3ViTModel"),
    "clip_vision_model": NetworkKind(
        "CLIPVisionModel",
        CLIP,
        interpolates=True,
        passed_over=(*TEXTS, PROJECTION),
        pooled="pooler_output",
    ),
    "clip_projected": NetworkKind(  # CLIP's images, with the map into the space of texts
        "CLIPVisionModelWithProjection",
        CLIP,
        interpolates=True,
        passed_over=TEXTS,
        pooled="image_embeds",
        library_type="clip_vision_model",
    ),
    "siglip_vision_model": NetworkKind(
        "SiglipVisionModel",
        HALF,
        extra_tokens=0,
        interpolates=True,
        fixed={"vision_use_head": False},
        passed_over=TEXTS,
        pooling_parts=("head.", "vision_model.head."),
        pooled="pooler_output",
    ),
}
TIMM = "timm"  # in place of a `model_type`: an image transformer of timm (`timm_network`)
# Configurations of several networks, of which one is the encoder of images.
WITHIN = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
NAMES = (*(name for name, kind in KINDS.items() if not kind.library_type), *WITHIN)


def is_known(content: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of a network that can stand in an encoder's place."""
    return content.get("model_type") in NAMES or is_of_timm(content)


def is_of_timm(content: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is as timm writes it."""
    return "model_type" not in content and isinstance(content.get("architecture"), str)


@dataclass(frozen=True)
class Described:
    """What a folder says of its network."""

    config: dict[str, Any]  # what differs from the library's defaults, and `model_type`
    tube: tuple[int, int, int]
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    seen: dict[str, int]  # of the clips or images that it was trained on
    mean: Channels  # of its pixels
    std: Channels


def described(folder: Path, content: Mapping[str, Any], pooling: Pooling = "mean") -> Described:
    """Return what a folder with this `config.json` says. Raises UserError where it cannot.

    `pooling`: what of the network is asked for; its own may need parts that the mean does not.
    """
    from pipeline.weights import processor

    whole, model_type = content, str(content["model_type"])
    if model_type in WITHIN:
        within = content.get("vision_config")
        content = within if isinstance(within, Mapping) else {}
        model_type = WITHIN[model_type]
    if pooling == "own" and _projects(whole):
        model_type, width = "clip_projected", whole.get("projection_dim", CLIP_PROJECTION)
        content = {**content, "projection_dim": width}
    given = {k: v for k, v in content.items() if k not in WITHOUT_EFFECT}
    normalisation = processor.normalisation(folder)
    named = {**given, "model_type": model_type}
    return of_configuration(named, normalisation, str(folder), pooling)


def _projects(content: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of CLIP with the map into the space that it shares with texts."""
    named = content.get("architectures") or ()
    return content["model_type"] == "clip" or "CLIPVisionModelWithProjection" in named


def of_configuration(
    given: Mapping[str, Any],
    normalisation: tuple[Channels, Channels] | None,
    place: str,
    pooling: Pooling = "mean",
) -> Described:
    """Return what a configuration with its `model_type` says. Raises UserError where it cannot.

    `normalisation`: of pixels, where it is not the usual one of such networks.
    """
    kind = KINDS[given["model_type"]]
    full = configuration({**given, **(kind.fixed if pooling == "mean" else {})}, place=place)
    if pooling == "own" and not (kind.pools and getattr(full, "vision_use_head", True)):
        raise UserError(
            f"this network, a {given['model_type']}, has no pooling of its own",
            place=place,
            remedy="use the mean of its tokens: pooling 'mean'",
        )
    usual = configuration({"model_type": given["model_type"]}).to_dict()
    config = {k: v for k, v in full.to_dict().items() if v != usual.get(k)}
    config = {k: v for k, v in sorted(config.items()) if k not in WITHOUT_EFFECT}
    patch = full.patch_size
    if not isinstance(patch, int):
        raise UserError(f"its patches are {patch}, not square", place=place)
    mean, std = normalisation or kind.normalisation
    seen = {"size": full.crop_size if kind.of_videos else full.image_size}
    if kind.of_videos:
        seen = {"frames": full.frames_per_clip, **seen}
    return Described(
        config={"model_type": given["model_type"], **config},
        tube=(full.tubelet_size if kind.of_videos else 1, patch, patch),
        width=full.hidden_size,
        depth=full.num_hidden_layers,
        heads=full.num_attention_heads,
        mlp_ratio=_mlp_ratio(full),
        seen=seen,
        mean=mean,
        std=std,
    )


def configuration(config: Mapping[str, Any], *, place: str = "") -> Any:
    """Return the library's own object. Raises UserError without the library."""
    try:
        from transformers import CONFIG_MAPPING
    except ImportError:
        raise UserError(
            "a network of the Transformers library, which is not installed",
            place=place,
            remedy=how_to_install("export"),
        ) from None
    values = dict(config)
    try:
        model_type = values.pop("model_type")
        return CONFIG_MAPPING[KINDS[model_type].library_type or model_type](**values)
    except Exception as error:  # noqa: BLE001 - the library has several kinds of its own
        lines = str(error).strip().splitlines() or [repr(error)]
        raise UserError(f"its configuration cannot be used: {lines[0]}", place=place) from None


def _mlp_ratio(config: Any) -> float:
    inner = getattr(config, "intermediate_size", None)
    return float(config.mlp_ratio if inner is None else inner / config.hidden_size)
