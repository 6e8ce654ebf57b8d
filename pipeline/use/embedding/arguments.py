"""What `embed`, `neighbours` and `export` ask about a checkpoint and a device, in one wording."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

    from pipeline.weights.video_model import VideoModel


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Declare the model, whoever wrote it."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="of this project, SIGMA, VideoMAE or Hugging Face: a file, a directory, OWNER/NAME",
    )


def add_geometry(parser: argparse.ArgumentParser) -> None:
    """Declare what a checkpoint may not say of itself."""
    group = parser.add_argument_group("where the checkpoint does not say it (docs/features.md)")
    group.add_argument("--heads", type=int, metavar="N", help="attention heads")
    group.add_argument("--frames", type=int, metavar="N", help="of a clip")
    group.add_argument("--size", type=int, metavar="PIXELS", help="of a clip")
    group.add_argument("--stride", type=int, metavar="N", help="source frames from one to the next")
    group.add_argument("--sampling", choices=("dense", "per_segment"), help="of a clip's frames")
    group.add_argument("--fps", type=rate, metavar="N", help="frames a second of videos")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare where the encoder computes."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, xpu or mps")


def model_of(options: argparse.Namespace, checkpoint: str) -> VideoModel:
    """Load the checkpoint that the options name."""
    from pipeline.weights import hub

    return hub.load(
        checkpoint,
        heads=options.heads,
        frames=options.frames,
        size=options.size,
        stride=options.stride,
        sampling=options.sampling,
        fps=options.fps,
    )


def device_of(name: str) -> torch.device:
    """Return the device; UserError where there is none of this name."""
    import torch

    from pipeline.runtime import accelerators

    if name == "auto":
        return torch.device(accelerators.kind() or "cpu")
    kind = name.partition(":")[0]
    try:
        if kind in accelerators.KINDS and not accelerators.count(kind):
            raise RuntimeError(f"torch {torch.__version__} sees none here")
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        lines = str(error).splitlines()
        raise UserError(
            f"device {name!r} cannot be used: {lines[0] if lines else 'unknown'}",
            place="--device",
        ) from None
    return device


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("needs a number above 0")
    return value


def rate(text: str) -> float:
    """A finite number above 0, for argparse."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("needs a number above 0")
    return value
