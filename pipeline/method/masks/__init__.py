"""Masks: which tubes of a clip the encoder sees and which are predicted, a file for each kind.

Each is registered under the name that `objective.mask.kind` gives it.
"""

from __future__ import annotations

from pipeline.method.masks.adaptive import AdaptiveMask
from pipeline.method.masks.attended import AttentionMask
from pipeline.method.masks.base import BoolArray, Grid, Mask, MaskArray, Ratio
from pipeline.method.masks.blocks import BlockMask
from pipeline.method.masks.flow_warped import FlowMask
from pipeline.method.masks.motion_weighted import MotionMask
from pipeline.method.masks.random_tubes import RandomMask
from pipeline.method.masks.random_visible import RandomVisibleMask
from pipeline.method.masks.redundancy import RedundancyMask
from pipeline.method.masks.running_cell import DualMask
from pipeline.method.masks.structured_noise import NoiseMask
from pipeline.method.masks.trajectory import TrajectoryMask
from pipeline.method.masks.tube import TubeMask
from pipeline.method.registry import Registry

MASKS: Registry = {
    "tube": TubeMask,
    "random": RandomMask,
    "random_visible": RandomVisibleMask,
    "blocks": BlockMask,
    "motion": MotionMask,
    "flow": FlowMask,
    "noise": NoiseMask,
    "dual": DualMask,
    "redundancy": RedundancyMask,
    "adaptive": AdaptiveMask,
    "trajectory": TrajectoryMask,
    "attention": AttentionMask,
}

__all__ = [
    "MASKS",
    "AdaptiveMask",
    "AttentionMask",
    "BlockMask",
    "BoolArray",
    "DualMask",
    "FlowMask",
    "Grid",
    "Mask",
    "MaskArray",
    "MotionMask",
    "NoiseMask",
    "RandomMask",
    "RandomVisibleMask",
    "Ratio",
    "RedundancyMask",
    "TrajectoryMask",
    "TubeMask",
]
