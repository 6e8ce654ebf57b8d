"""A run's encoder: that clips fit it, and for clips of another length."""

from __future__ import annotations

import copy

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Clip
from pipeline.errors import UserError
from pipeline.method.positions import sinusoid_positions
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder
from pipeline.weights import hub


def check_clip(layout: RunLayout, clip: Clip) -> None:
    """The clip may be sampled otherwise than in training, but must have as many pixels.

    Raises:
        UserError: where it has not.
    """
    _, trained = hub.read_config(layout.weights)
    if (trained.frames, trained.size) != (clip.frames, clip.size):
        raise UserError(
            f"the model takes clips of {trained.frames} frames of {trained.size} x {trained.size}, "
            f"data.clip has {clip.frames} of {clip.size} x {clip.size}",
            place=str(layout.weights),
            remedy=f"python -m pipeline pretrain --run {layout.run}",
        )


def for_frames(encoder: Encoder, frames: int) -> Encoder:
    """Return the encoder for clips of `frames` frames of the size that it was trained on.

    Its positions are the sinusoids of the new clip's tubes, numbered from 0: those of a shorter
    clip are what the first frames of a longer one have, so none is new to the encoder.
    """
    _, height, width = encoder.grid.clip_shape
    grid = TubeGrid.from_size(frames, height, width, encoder.grid.tube)
    if grid == encoder.grid:
        return encoder
    other = copy.deepcopy(encoder)
    other.grid = grid
    other.positions = sinusoid_positions(grid.count, encoder.width).to(encoder.positions)
    return other
