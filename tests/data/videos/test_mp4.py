"""The picture size that is read from our own clips."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.data.decode import mp4
from pipeline.runtime import ffmpeg


def written(path: Path, width: int, height: int, *more: str) -> Path:
    source = f"testsrc=size={width}x{height}:rate=8:duration=1"
    options = ["-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *more]
    subprocess.run([ffmpeg.executable(), "-v", "error", *options, str(path)], check=True)
    return path


@pytest.mark.parametrize("size", [(32, 32), (78, 44), (1920, 1080), (16, 130)])
@pytest.mark.parametrize("more", [(), ("-movflags", "+faststart")])
def test_the_size_is_the_one_that_was_written(
    tmp_path: Path, size: tuple[int, int], more: tuple[str, ...]
) -> None:
    """Catches width and height taken from elsewhere or swapped, and an index at the end."""
    assert mp4.picture_size(written(tmp_path / "clip.mp4", *size, *more)) == size


def test_a_file_without_pictures_is_an_error(tmp_path: Path) -> None:
    """Catches a size made up from whatever bytes are there."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\x00\x00\x00\x08free" * 3)
    with pytest.raises(ValueError, match="no moov box"):
        mp4.picture_size(path)
    whole = written(tmp_path / "whole.mp4", 32, 32, "-movflags", "+faststart").read_bytes()
    path.write_bytes(whole[: whole.index(b"stsd") + 20])
    with pytest.raises(ValueError, match="cut short"):
        mp4.picture_size(path)
