"""Checkpoints of MAE-ST (Feichtenhofer et al. 2022) under this project's names of tensors.

The bias of keys is left out: it shifts all scores of a query alike and cancels in the softmax. The
class token and its position are added here to one, as they always are before anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Beginnings of their names, and ours; the longest that fits.
NAMES = {
    "patch_embed.": "encoder.patch_embed.",
    "blocks.": "encoder.blocks.",
    "norm.": "encoder.norm.",
    "pos_embed_spatial": "encoder.learned.space",
    "pos_embed_temporal": "encoder.learned.time",
    "cls_token": "encoder.learned.class_token",
    "decoder_embed.": "encoder_to_decoder.",
    "mask_token": "mask_token",
    "decoder_blocks.": "decoder.blocks.",
    "decoder_norm.": "decoder.norm.",
    "decoder_pred.": "decoder.head.",
    "decoder_pos_embed_spatial": "learned.space",
    "decoder_pos_embed_temporal": "learned.time",
    "decoder_cls_token": "learned.class_token",
}
CLASS_POSITIONS = {
    "pos_embed_class": "encoder.learned.class_token",
    "decoder_pos_embed_class": "learned.class_token",
}
QKV = re.compile(r"(.*attn\.)([qkv])\.(weight|bias)")


def renamed(state: Mapping[str, Tensor], *, gradients: bool = False) -> dict[str, Tensor]:
    """Return tensors under our names; of `gradients`, those of a sum are not added."""
    ours: dict[str, Tensor] = {}
    projections: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name in CLASS_POSITIONS:
            continue
        beginning = max((each for each in NAMES if name.startswith(each)), key=len)
        plain = NAMES[beginning] + name.removeprefix(beginning)
        match = QKV.fullmatch(plain)
        if match is None:
            ours[plain] = tensor
        elif match[3] == "weight":
            projections.setdefault(match[1], {})[match[2]] = tensor
        elif match[2] != "k":
            ours[f"{match[1]}{match[2]}_bias"] = tensor
    for block, each in projections.items():
        ours[f"{block}qkv.weight"] = torch.cat([each[part] for part in "qkv"])
    if not gradients:
        for name, token in CLASS_POSITIONS.items():
            ours[token] = ours[token] + state[name]
    return ours
