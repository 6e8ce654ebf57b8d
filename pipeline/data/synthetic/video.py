"""Synthetic clips as ordinary video files, with their masks beside them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic.dataset import parse, render
from pipeline.runtime import ffmpeg
from pipeline.runtime.files import atomic_path

QUALITY = 10  # x264's crf: nearly lossless, so that textures survive the second encoding too


def write_videos(
    settings: Synthetic, rows: Iterable[Mapping[str, str]], folder: Path
) -> Iterator[tuple[str, Path]]:
    """Write `ID.mp4` and `ID.masks.npz` for each row; yield `(id, path of the video)`.

    The masks are written first, so where the video is the masks are too.
    """
    executable = str(ffmpeg.executable())
    for row in rows:
        split, index = parse(row["synthetic"])
        clip = render(settings, split, index)
        path = Path(folder) / f"{row['id']}.mp4"
        with atomic_path(masks_path(path)) as temporary:
            np.savez_compressed(temporary, masks=clip.masks)
        with atomic_path(path) as temporary:
            _encode(executable, clip.frames, settings.fps, temporary)
        yield row["id"], path


def masks_path(video: Path) -> Path:
    """Return where the masks of a video lie: key `masks`, uint8 T,H,W (0 background, 1 digit)."""
    return video.with_name(f"{video.stem}.masks.npz")


def _encode(executable: str, frames: NDArray[np.uint8], fps: int, path: Path) -> None:
    """Write frames (T,H,W,3) as H.264; equal frames and equal ffmpeg, equal bytes."""
    height, width = frames.shape[1:3]
    command = [executable, "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    command += ["-i", "pipe:0", "-an", "-c:v", "libx264", "-preset", "veryfast"]
    command += ["-crf", str(QUALITY), "-pix_fmt", "yuv420p", "-threads", "1"]
    command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", str(path)]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode:
        detail = done.stderr.decode(errors="replace").strip()[-500:]
        raise RuntimeError(f"ffmpeg could not write {path.name}: {detail}")
