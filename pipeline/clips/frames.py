"""From a clip's encoded bytes to its frames: the one place that knows the decoding library."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.videos import ffmpeg

Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class DecodeError(Exception):
    """The bytes do not hold the frames that they should."""


def read(video: bytes, indices: Sequence[int] | Indices, shape: tuple[int, int, int]) -> Frames:
    """Decode the frames with these indices, in this order: uint8 (len(indices),H,W,3), RGB.

    `shape` is what the video must hold: (frames, height, width). An index may occur more than
    once. Raises DecodeError where the video cannot be decoded or holds something else. Decodes
    in one thread: the loader's processes are the parallelism.
    """
    distinct, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    decoded = _by_decord(video, distinct, shape)
    if decoded is None:
        decoded = _by_ffmpeg(video, shape)[distinct]
    if decoded.shape[1:3] != shape[1:]:
        raise DecodeError(
            f"{_size(decoded.shape[1:3])} pixels where there should be {_size(shape[1:])}"
        )
    frames: Frames = decoded[places]
    return frames


def _by_decord(video: bytes, indices: Indices, shape: tuple[int, int, int]) -> Frames | None:
    """Decode some frames; None where decord 0.6 fails for a width that it cannot handle.

    It mistakes the padding of rows for pixels where the padded row happens to be a whole number
    of pixels: at widths 16, 24, 48 and 72 on x86-64 (every even width up to 520 was tried), and
    then refuses to copy the frame.
    """
    import decord  # loads ffmpeg's libraries, which only those who decode should wait for

    try:
        reader = decord.VideoReader(io.BytesIO(video), num_threads=1)
        if len(reader) != shape[0]:
            raise DecodeError(f"{len(reader)} frames where there should be {shape[0]}")
        frames: Frames = reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:  # the latter where no stream opens
        if "DECORDArrayCopyFromTo" in str(error):
            return None
        raise DecodeError(str(error).strip().splitlines()[0]) from None
    return frames


def _by_ffmpeg(video: bytes, shape: tuple[int, int, int]) -> Frames:
    """Decode all frames with the ffmpeg program: tens of milliseconds, but any width."""
    # A file without a name: nothing is left over where this process is killed meanwhile.
    with tempfile.TemporaryFile() as file:
        file.write(video)
        file.seek(0)
        command = [ffmpeg.executable(), "-v", "error", "-nostdin", "-threads", "1"]
        command += ["-i", "/dev/stdin", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        done = subprocess.run(command, capture_output=True, stdin=file, check=False)
    size = shape[0] * shape[1] * shape[2] * 3
    if done.returncode or len(done.stdout) != size:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DecodeError(said[0] if said else f"{len(done.stdout)} bytes, not {size}")
    return np.frombuffer(done.stdout, dtype=np.uint8).reshape(*shape, 3)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
