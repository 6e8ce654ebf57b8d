"""What shapes of tensors say of an encoder; no tensor is read and PyTorch is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline.configuration.schema import Model
from pipeline.method.choices import Positions

Shapes = Mapping[str, tuple[int, ...]]

# Heads of the published encoders, by width (VideoMAE, SIGMA: S, B, L, H, and VideoMAE v2's g).
HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")
DECODER_BLOCK = re.compile(r"decoder\.blocks\.(\d+)\.")


def is_of_tubes(shapes: Shapes) -> bool:
    """Whether these are the tensors of a video transformer of tubes, under official names."""
    tubes = shapes.get("encoder.patch_embed.proj.weight", ())
    return len(tubes) == 5 and len(shapes.get("encoder.blocks.0.mlp.fc1.weight", ())) == 2


def encoder_of(shapes: Shapes, heads: int, positions: Positions = "sinusoid") -> Model:
    """Return the encoder with such tensors, and its decoder where the file has one."""
    width, _, t, h, w = shapes["encoder.patch_embed.proj.weight"]
    return Model(
        name="loaded",
        tube=(t, h, w),
        width=width,
        depth=count(BLOCK, shapes),
        heads=heads,
        mlp_ratio=ratio(shapes["encoder.blocks.0.mlp.fc1.weight"][0], width),
        positions=positions,
        **_decoder(shapes, width, heads),
    )


def _decoder(shapes: Shapes, width: int, heads: int) -> dict[str, int]:
    """The decoder's shape where the file has one; a stand-in where it is an encoder alone."""
    map_in = shapes.get("encoder_to_decoder.weight")
    depth = count(DECODER_BLOCK, shapes)
    if map_in is None or not depth:
        return {"decoder_width": width, "decoder_depth": 1, "decoder_heads": heads}
    narrow = map_in[0]
    each = 64 if narrow % 64 == 0 else narrow
    return {"decoder_width": narrow, "decoder_depth": depth, "decoder_heads": narrow // each}


def count(pattern: re.Pattern[str], names: Iterable[str]) -> int:
    """Return how many blocks there are; of a name with a number too high, none is built."""
    return len({match[1] for match in map(pattern.match, names) if match})


def ratio(inner: int, width: int) -> float:
    """Return the ratio of which int(width x ratio) is `inner`."""
    exact = inner / width
    return exact if int(width * exact) == inner else (inner + 0.5) / width
