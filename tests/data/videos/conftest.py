"""Configurations, and small videos whose frames say which they are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pipeline.configuration import composition
from pipeline.configuration.schema import Decode, Params
from pipeline.runtime import ffmpeg

BITS = 16  # of a frame's number, drawn as black and white squares
SIDE = 4  # squares in a row
SQUARE = 16  # pixels


def numbered(number: int) -> NDArray[np.uint8]:
    """Draw a frame (H, W, 3) that shows its number in binary."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8).reshape(SIDE, SIDE)
    grey = np.kron(bits * 200 + 25, np.ones((SQUARE, SQUARE), np.uint8))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def number_of(frame: NDArray[np.uint8]) -> int:
    """Read the number that `numbered` drew, from a frame (H, W, 3) of any size."""
    height, width = frame.shape[:2]
    rows = [int((row + 0.5) * height / SIDE) for row in range(SIDE)]
    columns = [int((column + 0.5) * width / SIDE) for column in range(SIDE)]
    bits = (frame[np.ix_(rows, columns)].mean(axis=-1) > 128).ravel()
    return sum(int(bit) << place for place, bit in enumerate(bits))


MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """A function that writes a video of numbered frames and returns its path."""
    folder = tmp_path_factory.mktemp("numbered")

    def make(name: str, frames: int, *options: str, rate: str = "25") -> Path:
        path = folder / name
        if path.is_file():
            return path
        side = SIDE * SQUARE
        raw = b"".join(numbered(number).tobytes() for number in range(frames))
        command = [ffmpeg.executable(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{side}x{side}", "-r", rate, "-i", "pipe:0", *options, str(path)]
        subprocess.run(command, input=raw, check=True)
        return path

    return make


@pytest.fixture(scope="session")
def decode() -> Decode:
    """Small, fast settings of the decode stage that keep the source's rate."""
    return Decode(
        short_side=64,
        fps=None,
        crf=10,
        gop=4,
        preset="ultrafast",
        min_frames=2,
        time_limit_s=60,
        memory_limit_mib=4096,
    )


@pytest.fixture(scope="session")
def composed() -> Params:
    """The configuration of a list of one's own videos."""
    text = composition.compose(["experiment=demo", "data=folder", "data.manifest=list.csv"])
    return composition.validate(yaml.safe_load(text), place="tests")
