"""Small real videos, packed into shards as the stages do it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.configuration.schema import Shards
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards.format import ClipEntry, clips_file
from pipeline.data.shards.shard_stage import pack

Frames = npt.NDArray[np.uint8]


def levels_video(frames: int, height: int, width: int, offset: int) -> Frames:
    """Frames (T,H,W,3) that say which they are: frame i is grey at `offset` + 12 i."""
    levels = (offset + 12 * np.arange(frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).copy()


def write_h264(path: Path, video: Frames, gop: int = 4) -> None:
    """Encode uint8 (T,H,W,3) with B-frames and short closed groups of pictures."""
    _, height, width, _ = video.shape
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "8", "-i", "-"]
    command += ["-c:v", "libx264", "-crf", "10", "-g", str(gop), "-bf", "2", "-threads", "1"]
    command += ["-flags", "+cgop", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=video.tobytes(), check=True)


@pytest.fixture(scope="session")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ClipEntry]:
    """Seven clips of 5 to 17 frames in two chunks of shards; clip k begins at grey 20 + 3 k."""
    folder = tmp_path_factory.mktemp("shards")
    found: list[ClipEntry] = []
    for chunk in range(2):
        records = []
        for k in range(chunk, 7, 2):
            frames, height, width = 5 + 2 * k, 32, 32 + 8 * (k % 3)
            path = folder / f"{k}.mp4"
            write_h264(path, levels_video(frames, height, width, 20 + 3 * k))
            records.append(
                ClipRecord(
                    id=f"clip.{k}",
                    outcome=Outcome.OK,
                    file=str(path),
                    frames=frames,
                    fps=8,
                    width=width,
                    height=height,
                )
            )
        settings = Shards(codec="h264", clips_per_shard=2)
        pack(records, folder / "tars", chunk, settings, folder / "decoded.json")
    for tar in sorted((folder / "tars").glob("*.tar")):
        found += [ClipEntry.parse(line, tar) for line in clips_file(tar).read_text().splitlines()]
    return sorted(found, key=lambda entry: entry.id)


@pytest.fixture(scope="session", name="write_h264")
def write_h264_fixture() -> Callable[[Path, Frames], None]:
    """The function `write_h264`, for test files."""
    return write_h264
