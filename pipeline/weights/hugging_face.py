"""Our models under the names of Hugging Face Transformers' VideoMAE.

Their file format has one query, key and value matrix each, and a bias for queries and values.
Files made of `config` and `tensors` load with `VideoMAEModel` and `VideoMAEForPreTraining`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.configuration.schema import Clip, Model
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.method.vit import NORM_EPS
from pipeline.weights import geometry

BLOCK = re.compile(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)")
STACKS = {"encoder": "videomae.encoder.layer", "decoder": "decoder.decoder_layers"}
IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_bias": "attention.attention.q_bias",
    "attn.v_bias": "attention.attention.v_bias",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
OUTSIDE = {
    "encoder.patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "encoder.norm": "videomae.layernorm",
}
THEIR_BLOCK = re.compile(r"(?:videomae\.)?encoder\.layer\.(\d+)\.(.+)")
PARTS = ("query", "key", "value")
FC_NORM_EPS = 1e-5  # of the norm in front of their classifier, whatever their configuration says
NOT_THEIRS = ("prototypes", "target.")  # SIGMA's own: VideoMAE has no place for them


def config(model: Model, clip: Clip) -> dict[str, Any]:
    """The content of their `config.json`.

    Raises `UserError` for what their model cannot say: other tubes, positions or input.
    """
    if model.positions != "sinusoid":
        raise UserError(
            f"VideoMAE in Transformers has sinusoid positions, not {model.positions}",
            place="model.positions",
            remedy="export the encoder in another format",
        )
    geometry.refuse_subtracted_background(model, "VideoMAE in Transformers")
    frames, height, width = model.tube
    if height != width:
        raise UserError(
            f"VideoMAE in Transformers has square tubes only, not {height}x{width}",
            place="model.tube",
        )
    return {
        "model_type": "videomae",
        "architectures": ["VideoMAEForPreTraining"],
        "image_size": clip.size,
        "num_frames": clip.frames,
        "num_channels": 3,
        "patch_size": height,
        "tubelet_size": frames,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": int(model.width * model.mlp_ratio),
        "decoder_hidden_size": model.decoder_width,
        "decoder_num_hidden_layers": model.decoder_depth,
        "decoder_num_attention_heads": model.decoder_heads,
        "decoder_intermediate_size": int(model.decoder_width * model.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": NORM_EPS,
        "qkv_bias": True,
        "use_mean_pooling": False,  # keeps the encoder's last LayerNorm
        "norm_pix_loss": True,
    }


def tensors(model: SigmaModel) -> dict[str, Tensor]:
    """All weights that VideoMAE has a place for, under its names; prototypes and targets go."""
    return renamed(model.state_dict())


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of ours (`encoder.blocks.0...`, `decoder...`) under VideoMAE's names."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(NOT_THEIRS):
            continue
        match = BLOCK.fullmatch(name)
        if match is None:
            module, _, kind = name.rpartition(".")
            renamed[f"{OUTSIDE[module]}.{kind}" if module in OUTSIDE else name] = tensor
            continue
        stack, index, rest = match.groups()
        block = f"{STACKS[stack]}.{index}"
        if rest == "attn.qkv.weight":
            for part, weight in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{block}.attention.attention.{part}.weight"] = weight.contiguous()
        else:
            renamed[f"{block}.{_in_block(rest)}"] = tensor
    return renamed


def _in_block(rest: str) -> str:
    if rest in IN_BLOCK:
        return IN_BLOCK[rest]
    module, _, kind = rest.rpartition(".")
    return f"{IN_BLOCK[module]}.{kind}"


def encoder_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors under this project's names: the inverse of `tensors`.

    Takes the names of the published files (`q_bias`, `v_bias`) and those that Transformers 5 works
    with (`query.bias`, `value.bias`). Decoder and classifier are passed over. What does not fit is
    kept under a name that loading will refuse.
    """
    renamed: dict[str, Tensor] = {}
    qkv: dict[str, dict[str, Tensor]] = {}
    theirs = {f"{module}.": ours for ours, module in OUTSIDE.items()}
    inside = {f"{module}.": ours for ours, module in IN_BLOCK.items()}
    for name, tensor in state.items():
        match = THEIR_BLOCK.fullmatch(name)
        if match is None:
            full = name if name.startswith("videomae.") else f"videomae.{name}"
            module, _, kind = full.rpartition(".")
            if f"{module}." in theirs:
                renamed[f"{theirs[f'{module}.']}.{kind}"] = tensor
            continue
        block, rest = f"encoder.blocks.{match[1]}", match[2]
        rest = rest.replace("query.bias", "q_bias").replace("value.bias", "v_bias")
        module, _, kind = rest.rpartition(".")
        part = module.removeprefix("attention.attention.")
        if kind == "weight" and part in PARTS:
            qkv.setdefault(block, {})[part] = tensor
        elif f"{rest}." in inside:
            renamed[f"{block}.{inside[f'{rest}.']}"] = tensor
        else:
            renamed[f"{block}.{inside.get(f'{module}.', module)}.{kind}"] = tensor
    for block, parts in qkv.items():
        if len(parts) == len(PARTS):  # else loading says what is missing
            renamed[f"{block}.attn.qkv.weight"] = torch.cat([parts[part] for part in PARTS])
    return renamed


def head_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a classifier's norm and linear head under this project's names; empty without one."""
    names = {"fc_norm.": "fc_norm.", "classifier.": "head."}
    return {
        ours + name.removeprefix(theirs): tensor
        for name, tensor in state.items()
        for theirs, ours in names.items()
        if name.startswith(theirs) and "classifier.weight" in state
    }
