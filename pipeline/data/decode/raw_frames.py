"""All frames of a video, one after the other, from the ffmpeg program: any width, any length."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.runtime import ffmpeg

Frame = npt.NDArray[np.uint8]

# A clip that this project made takes seconds; what stands in its place may be anything.
TIME_LIMIT_S, MEMORY_LIMIT_MIB = 600.0, 4096


class DecodeError(Exception):
    """The bytes do not hold the frames that they should."""


def decode_frames(video: bytes, shape: tuple[int, int, int]) -> Iterator[Frame]:
    """Yield the frames of a video in order: uint8 (H,W,3), RGB.

    `shape` is what the video must hold: (frames, height, width). The pixels are those that decord
    and torchcodec give. Raises DecodeError where it cannot be decoded or holds something else.
    """
    count, height, width = shape
    size = height * width * 3
    # Files without a name: nothing is left over where this process is killed meanwhile.
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as errors:
        file.write(video)
        file.seek(0)
        command = [ffmpeg.executable(), "-v", "error", "-nostdin", "-threads", "1"]
        command += [word for name, value in ffmpeg.CONFINED.items() for word in (f"-{name}", value)]
        command += ["-i", "file:/dev/stdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        with ffmpeg.started(
            command,
            time_limit_s=TIME_LIMIT_S,
            memory_limit_mib=MEMORY_LIMIT_MIB,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process:
            output = process.stdout or io.BytesIO()  # it is a pipe: the rest is for the type
            try:
                got = 0
                while len(data := output.read(size)) == size:
                    got += 1
                    if got <= count:  # the rest is read to be counted
                        yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
            finally:
                output.close()  # ends ffmpeg where the caller wants no more
                status = process.wait()
        if status or got != count or data:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            odd = f" and {len(data)} bytes" if data else ""
            counted = f"{got} frames{odd} of {width}x{height} where there should be {count}"
            raise DecodeError(lines[0] if lines else counted)
