"""From a clip's H.264 to its frames: the one place that knows the decoding libraries.

Two libraries decode behind one interface, chosen by `trainer.decoder`; `auto` is torchcodec where
it is there, else decord. Their pixels are equal bit for bit (tests/data/load): the choice is one of
speed alone: torchcodec is 1.2 to 1.8 times as fast, but takes seconds to import (it loads torch's
compiler), which short jobs do not win back.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.data.decode.raw_frames import DecodeError as DecodeError
from pipeline.errors import UserError, first_line

Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Decoder = Literal["auto", "decord", "torchcodec"]


def read(
    video: bytes,
    indices: Sequence[int] | Indices,
    shape: tuple[int, int, int],
    decoder: Decoder = "decord",
) -> Frames:
    """Decode the frames with these indices, in this order: uint8 (len(indices),H,W,3), RGB.

    `shape` is what the video must hold: (frames, height, width). An index may occur more than
    once. Raises DecodeError where the video cannot be decoded or holds something else, UserError
    where the decoder is not there. Decodes in one thread: the loader's processes are the
    parallelism.
    """
    distinct, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    if chosen(decoder) == "torchcodec":
        decoded = _by_torchcodec(video, distinct, shape)
    else:
        decoded = _by_decord(video, distinct, shape)
    if decoded.shape[1:3] != shape[1:]:
        raise DecodeError(
            f"{_size(decoded.shape[1:3])} pixels where there should be {_size(shape[1:])}"
        )
    frames: Frames = decoded[places]
    return frames


@functools.cache
def chosen(decoder: Decoder) -> Literal["decord", "torchcodec"]:
    """Return the library that will decode. Raises UserError where it is asked for but not there."""
    if decoder == "decord":
        return "decord"
    try:
        import torchcodec.decoders  # noqa: F401 - loads ffmpeg's libraries, which may be missing
    except ImportError:
        problem, remedy = "torchcodec is not installed", "pip install 'sigma-pipeline[torchcodec]'"
    except (OSError, RuntimeError):
        problem = "torchcodec does not find the libraries of ffmpeg (libavcodec and others)"
        remedy = "install them, on Debian and Ubuntu with `apt-get install ffmpeg`"
    else:
        return "torchcodec"
    if decoder == "auto":
        return "decord"
    remedy += ", or set trainer.decoder=decord"
    raise UserError(problem, place="trainer.decoder", remedy=remedy)


def _by_torchcodec(video: bytes, indices: Indices, shape: tuple[int, int, int]) -> Frames:
    from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

    try:
        decoder = VideoDecoder(video, dimension_order="NHWC", num_ffmpeg_threads=1)
        if len(decoder) != shape[0]:
            raise DecodeError(f"{len(decoder)} frames where there should be {shape[0]}")
        frames: Frames = decoder.get_frames_at(indices.tolist()).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        raise DecodeError(first_line(error)) from None
    return frames


def _by_decord(video: bytes, indices: Indices, shape: tuple[int, int, int]) -> Frames:
    import decord  # loads ffmpeg's libraries, which only those who decode should wait for

    try:
        reader = decord.VideoReader(io.BytesIO(video), num_threads=1)
        if len(reader) != shape[0]:
            raise DecodeError(f"{len(reader)} frames where there should be {shape[0]}")
        try:
            frames: Frames = reader.get_batch(indices).asnumpy()
        except decord.DECORDError as error:
            if "DECORDArrayCopyFromTo" not in str(error):
                raise
            return np.stack([_without_padding(reader[index].asnumpy()) for index in indices])
    except (decord.DECORDError, RuntimeError) as error:  # the latter where no stream opens
        raise DecodeError(first_line(error)) from None
    return frames


def _without_padding(frame: Frames) -> Frames:
    """Return a frame (H,W,3) of one for which decord 0.6 says (H,W,C), C > 3.

    Where each padded row happens to be a whole multiple of the width, decord takes the padding for
    more channels, and cannot put such frames into a batch: at widths 16, 24, 48 and 72 on x86-64
    (every even width up to 520 was tried). A row is its pixels, then the padding.
    """
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
