"""Entry points for torch.hub.

model = torch.hub.load(REPOSITORY, "load", "model.safetensors")  # any checkpoint
features = model.embed("clip.mp4")
encoder = torch.hub.load(REPOSITORY, "vit_base")  # new weights
"""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "torchvision", "timm", "safetensors", "pydantic", "numpy", "yaml"]


def load(checkpoint: str, **hints: Any) -> Any:
    """Load any checkpoint of this project, SIGMA, VideoMAE or Hugging Face's VideoMAE.

    `hints` are what the file may not say: heads, frames, size, stride, sampling, fps.
    """
    from pipeline.weights import hub

    return hub.load(checkpoint, **hints)


def vit_small() -> Any:
    """ViT-S for 16 frames of 224 x 224 pixels, with new weights."""
    return _encoder("vit_small")


def vit_base() -> Any:
    """ViT-B for 16 frames of 224 x 224 pixels, with new weights."""
    return _encoder("vit_base")


def vit_large() -> Any:
    """ViT-L for 16 frames of 224 x 224 pixels, with new weights."""
    return _encoder("vit_large")


def vit_huge() -> Any:
    """ViT-H for 16 frames of 224 x 224 pixels, with new weights."""
    return _encoder("vit_huge")


def _encoder(name: str) -> Any:
    import yaml

    from pipeline.configuration.build import encoder_size
    from pipeline.configuration.composition import CONF
    from pipeline.configuration.schema import Model
    from pipeline.method.tubes import TubeGrid
    from pipeline.method.vit import Encoder

    text = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    model = Model.model_validate(yaml.safe_load(text))
    grid = TubeGrid.from_size(16, 224, 224, model.tube)
    return Encoder(encoder_size(model), grid).eval()
