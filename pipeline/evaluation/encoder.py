"""A run's encoder: that its weights are the trained ones, which clips fit it, other lengths."""

from __future__ import annotations

import copy

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Clip
from pipeline.errors import UserError
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder
from pipeline.runtime.files import read_json, sha256_file
from pipeline.weights import hub


def verified_sha256(layout: RunLayout) -> str:
    """Hash the weights; they must be those that the pretrain stage wrote.

    Raises:
        UserError: where the run has not been pretrained, or the weights are others.
    """
    remedy = f"python -m pipeline pretrain --run {layout.run}"
    try:
        recorded = read_json(layout.pretrained)["model_sha256"]
        actual = sha256_file(layout.weights)
    except FileNotFoundError as error:
        problem = f"run {layout.run!r} has not been pretrained"
        raise UserError(problem, place=str(error.filename), remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        problem = f"this is not the manifest of a pretrained run: {error!r}"
        raise UserError(problem, place=str(layout.pretrained), remedy=remedy) from None
    if recorded != actual:
        raise UserError(
            f"the weights are not those that {layout.pretrained} tells of",
            place=str(layout.weights),
            remedy=remedy,
        )
    return actual


def check_clip(layout: RunLayout, clip: Clip, *, any_length: bool = False) -> None:
    """The clip may be sampled otherwise than in training, but must have as many pixels.

    Raises:
        UserError: where it has not; other numbers of frames are refused unless `any_length`.
    """
    _, trained = hub.read_config(layout.weights)
    frames = clip.frames if any_length else trained.frames
    if (frames, trained.size) != (clip.frames, clip.size):
        raise UserError(
            f"the model takes clips of {trained.frames} frames of {trained.size} x {trained.size}, "
            f"data.clip has {clip.frames} of {clip.size} x {clip.size}",
            place=str(layout.weights),
            remedy=f"python -m pipeline pretrain --run {layout.run}",
        )


def for_frames(encoder: Encoder, frames: int) -> Encoder:
    """Return the encoder for clips of `frames` frames of the size that it was trained on.

    Its positions are those of the new clip's tubes, numbered from 0: those of a shorter
    clip are what the first frames of a longer one have, so none is new to the encoder.
    """
    _, height, width = encoder.grid.clip_shape
    ours = encoder.grid
    grid = TubeGrid.from_size(frames, height, width, ours.tube, ours.background)
    if grid == ours:
        return encoder
    other = copy.deepcopy(encoder)
    other.use_grid(grid)
    return other
