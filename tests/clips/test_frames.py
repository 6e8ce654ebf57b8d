"""Decoding: exact frames at every width, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.clips import frames

Videos = dict[int, tuple[frames.Frames, bytes]]


@pytest.fixture(scope="module")
def videos(
    tmp_path_factory: pytest.TempPathFactory, write_h264: Callable[[Path, frames.Frames], None]
) -> Videos:
    """Grey noise in blocks of 4 x 4, other in each frame: (pixels, encoded) by width."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    made = {}
    for width in (16, 24, 32, 40, 48, 64, 72):
        blocks = rng.integers(0, 256, (6, 4, width // 4, 1), dtype=np.uint8)
        video = blocks.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
        write_h264(folder / f"{width}.mp4", video)
        made[width] = (video, (folder / f"{width}.mp4").read_bytes())
    return made


@pytest.mark.parametrize("width", [16, 24, 32, 40, 48, 64, 72])
def test_every_width(videos: Videos, width: int) -> None:
    """Catches decord's failure at widths 16, 24, 48 and 72, and skewed rows at any."""
    video, encoded = videos[width]
    for indices in ([0, 1, 2, 3, 4, 5], [5, 1, 1, 3]):
        decoded = frames.read(encoded, indices, (6, 16, width))
        assert decoded.shape == (len(indices), 16, width, 3)
        wrong = np.abs(decoded.astype(int) - video[indices]).mean(axis=(1, 2, 3))
        assert wrong.max() < 4  # grey levels, from coding; another frame would be about 85 off


@pytest.mark.parametrize("width", [32, 40, 64])
def test_both_decoders_agree(videos: Videos, width: int) -> None:
    """Catches pixels that depend on which decoder a clip's width asks for."""
    _, encoded = videos[width]
    by_ffmpeg = frames._by_ffmpeg(encoded, (6, 16, width))
    by_decord = frames._by_decord(encoded, np.arange(6), (6, 16, width))
    assert by_decord is not None
    assert np.abs(by_ffmpeg.astype(int) - by_decord).max() <= 2


@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize(
    ("damage", "shape", "problem"),
    [
        (lambda video: b"", (6, 16), "."),
        (lambda video: b"<html>", (6, 16), "."),
        (lambda video: video[: len(video) // 3], (6, 16), "."),
        (lambda video: video, (7, 16), "6 frames where there should be 7"),
        (lambda video: video, (6, 18), "."),
    ],
)
def test_what_is_wrong_is_said(
    videos: Videos,
    width: int,
    damage: Callable[[bytes], bytes],
    shape: tuple[int, int],
    problem: str,
) -> None:
    """Catches other exceptions than DecodeError, and frames of another size passed on."""
    with pytest.raises(frames.DecodeError, match=problem) as caught:
        frames.read(damage(videos[width][1]), [0, 1], (*shape, width))
    assert "\n" not in str(caught.value)
