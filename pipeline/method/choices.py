"""Choices of networks that the configuration names; they are read where PyTorch is not needed."""

from __future__ import annotations

from typing import Literal

# Of tokens: `sinusoid` of a token's number in the clip (VideoMAE); `sincos_3d` of its time, row and
# column, in equal parts of the channels (V-JEPA), or `sincos_3d_half_time`, half of them of time;
# `sincos_3d_quarter_time` of time (a quarter), column and row (MVD, widths that 16 divides);
# `learned` for times and places, beside a class token (MAE-ST).
Positions = Literal[
    "sinusoid", "sincos_3d", "sincos_3d_half_time", "sincos_3d_quarter_time", "learned"
]
# What a model gets of a clip: pixels, or what they differ from their mean over its frames, place by
# place (background subtraction).
Background = Literal["subtract"] | None
# What of a clip a network of images is asked for: `mean` of all frames' patches, or `own`, the mean
# over frames of what the network itself makes of one (class token, attention pooling, projection).
Pooling = Literal["mean", "own"]
# `videomae`: Xavier uniform (`method.vit`); `vjepa`: normal weights of deviation 0.02, of which
# those of the last maps of attention and MLP in block l are divided by sqrt(2 l), and mask tokens
# of zeros.
Initialisation = Literal["videomae", "vjepa"]
