"""Checkpoints of V-JEPA (Bardes et al. 2024) under this project's names of tensors.

Positions are computed here, so theirs are left out; and so is the bias of keys, which shifts all
scores of a query alike and cancels in the softmax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Beginnings of their names, without the wrappers' `module.` and `backbone.`, and ours.
NAMES = {
    "encoder.": "encoder.",
    "predictor.predictor_embed.": "encoder_to_decoder.",
    "predictor.predictor_blocks.": "decoder.blocks.",
    "predictor.predictor_norm.": "decoder.norm.",
    "predictor.predictor_proj.": "decoder.head.",
}
MASK_TOKEN = re.compile(r"predictor\.mask_tokens\.(\d+)")
LEFT_OUT = ("pos_embed", "predictor_pos_embed")


def renamed(state: Mapping[str, Tensor], *, encoder: str = "encoder") -> dict[str, Tensor]:
    """Return the tensors of encoder and predictor (or gradients of them) under our names.

    `encoder` is the one that is taken: `target_encoder` is the average, which its authors evaluate.
    """
    ours: dict[str, Tensor] = {}
    mask_tokens: dict[int, Tensor] = {}
    for name, tensor in state.items():
        plain = name.replace("module.", "").replace("backbone.", "")
        network, _, rest = plain.partition(".")
        if rest in LEFT_OUT or network not in (encoder, "predictor"):
            continue
        if network == encoder:
            plain = f"encoder.{rest}"
        if match := MASK_TOKEN.fullmatch(plain):
            mask_tokens[int(match[1])] = tensor
            continue
        beginning = next(each for each in NAMES if plain.startswith(each))
        plain = NAMES[beginning] + plain.removeprefix(beginning)
        if plain.endswith("attn.qkv.bias"):
            block = plain.removesuffix("qkv.bias")
            ours[f"{block}q_bias"], _, ours[f"{block}v_bias"] = tensor.chunk(3)
        else:
            ours[plain] = tensor
    if mask_tokens:
        ours["mask_token"] = torch.cat([mask_tokens[kind] for kind in sorted(mask_tokens)])
    return ours
