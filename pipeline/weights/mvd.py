"""Checkpoints of MVD (Wang et al. 2023) under this project's names of tensors.

Positions are computed here, so theirs are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

POSITIONS = ("pos_embed", "pos_embed_img", "pos_embed_vid")
# Beginnings of their names, and ours: the image teacher's features are the first target.
NAMES = {
    "patch_embed.": "encoder.patch_embed.",
    "blocks.": "encoder.blocks.",
    "norm.": "encoder.norm.",
    "down_img.": "encoder_to_decoder.",
    "mask_token_img": "mask_token",
    "decoder_img.": "decoder.",
    "down_vid.": "further.video.encoder_to_decoder.",
    "mask_token_vid": "further.video.mask_token",
    "decoder_vid.": "further.video.decoder.",
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors, or gradients of them, under our names."""
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in POSITIONS:
            continue
        beginning = next(each for each in NAMES if name.startswith(each))
        ours[NAMES[beginning] + name.removeprefix(beginning)] = tensor
    return ours
