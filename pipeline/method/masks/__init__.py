"""Masks: which tubes of a clip the encoder sees and which are predicted, a file for each kind.

Each is registered under the name that `objective.mask.kind` gives it.
"""

from __future__ import annotations

from pipeline.method.masks.base import BoolArray, Grid, Mask, MaskArray, Ratio
from pipeline.method.masks.blocks import BlockMask
from pipeline.method.masks.motion_weighted import MotionMask
from pipeline.method.masks.random_tubes import RandomMask
from pipeline.method.masks.tube import TubeMask
from pipeline.method.registry import Registry

MASKS: Registry = {
    "tube": TubeMask,
    "random": RandomMask,
    "motion": MotionMask,
    "blocks": BlockMask,
}

__all__ = [
    "MASKS",
    "BlockMask",
    "BoolArray",
    "Grid",
    "Mask",
    "MaskArray",
    "MotionMask",
    "RandomMask",
    "Ratio",
    "TubeMask",
]
