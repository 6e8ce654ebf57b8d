"""From a clip's H.264 to its frames: the one place that knows the decoding libraries.

Three libraries decode behind one interface, chosen by `trainer.decoder`. Their pixels are equal bit
for bit (tests/data/load): the choice is one of speed alone. torchcodec is 1.2 to 1.8 times as fast
as decord, but takes seconds to import (it loads torch's compiler), which short jobs do not win
back. PyAV decodes a clip from its beginning, and brings its own libraries for every platform.

`nvdec` is torchcodec on the video engines of an NVIDIA GPU, for pretraining alone. They turn the
same decoded frames into RGB with another rounding, so a training by it is another training.
"""

from __future__ import annotations

import functools
import importlib
import io
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.decode.raw_frames import DecodeError as DecodeError
from pipeline.errors import UserError, first_line, how_to_install

Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Library = Literal["torchcodec", "decord", "pyav", "nvdec"]
Decoder = Literal["auto", Library]

MODULES: dict[Library, str] = {
    "torchcodec": "torchcodec.decoders",
    "decord": "decord",
    "pyav": "av",
    "nvdec": "torchcodec.decoders",
}
ON_CPU: tuple[Library, ...] = ("torchcodec", "decord", "pyav")  # of equal pixels, best first


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
    decoded = READERS[chosen(decoder)](video, distinct, shape)
    if decoded.shape[1:3] != shape[1:]:
        raise DecodeError(
            f"{_size(decoded.shape[1:3])} pixels where there should be {_size(shape[1:])}"
        )
    frames: Frames = decoded[places]
    return frames


@functools.cache
def chosen(decoder: Decoder) -> Library:
    """Return the library that will decode: the one asked for; for `auto` the first that is there.

    decord has wheels for Linux on x86-64 alone. Where it is missing, `decord` is like `auto`, so
    that one configuration serves every machine.

    Raises:
        UserError: one other than decord is asked for but not there, or there is none at all.
    """
    if decoder in ("torchcodec", "pyav", "nvdec"):
        problem = problem_of(decoder)
        if problem is None:
            return decoder
        raise UserError(problem[0], place="trainer.decoder", remedy=f"{problem[1]}, or use auto")
    preferred: tuple[Library, ...] = ("decord",) if decoder == "decord" else ()
    for library in (*preferred, *ON_CPU):
        if problem_of(library) is None:
            return library
    raise UserError("no library decodes video here", place="trainer.decoder", remedy="make setup")


def of_exact_pixels(decoder: Decoder) -> Decoder:
    """Return the decoder to evaluate with where one trains with `decoder`."""
    return "auto" if decoder == "nvdec" else decoder


def problem_of(library: Library) -> tuple[str, str] | None:
    """Return the problem of a library that cannot be used, and its remedy; None: it can be."""
    try:
        importlib.import_module(MODULES[library])  # loads ffmpeg's libraries, which may be missing
    except ImportError:
        if library == "decord":
            return "decord is not installed", "make setup; it has wheels for Linux on x86-64 alone"
        if library == "nvdec":
            return "torchcodec, which asks for it, is not installed", how_to_install("torchcodec")
        extra = "motion-vectors" if library == "pyav" else library
        return f"{library} is not installed", how_to_install(extra)
    except (OSError, RuntimeError):
        return (
            f"{library} does not find the libraries of ffmpeg (libavcodec and others)",
            "install them, on Debian and Ubuntu with `apt-get install ffmpeg`",
        )
    if library == "nvdec" and not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU that could decode", "use auto, which decodes on the CPU"
    return None


def _by_torchcodec(
    video: bytes, indices: Indices, shape: tuple[int, int, int], device: str = "cpu"
) -> Frames:
    from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

    try:
        decoder = VideoDecoder(video, dimension_order="NHWC", num_ffmpeg_threads=1, device=device)
        if len(decoder) != shape[0]:
            raise DecodeError(f"{len(decoder)} frames where there should be {shape[0]}")
        frames: Frames = decoder.get_frames_at(indices.tolist()).data.cpu().numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        raise DecodeError(first_line(error)) from None
    return frames


def _by_nvdec(video: bytes, indices: Indices, shape: tuple[int, int, int]) -> Frames:
    return _by_torchcodec(video, indices, shape, f"cuda:{torch.cuda.current_device()}")


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


def _by_pyav(video: bytes, indices: Indices, shape: tuple[int, int, int]) -> Frames:
    import av

    last = int(indices[-1])
    try:
        with av.open(io.BytesIO(video), "r") as container:
            stream = container.streams.video[0]
            if stream.frames != shape[0]:
                raise DecodeError(f"{stream.frames} frames where there should be {shape[0]}")
            stream.codec_context.thread_count = 1
            wanted = set(indices.tolist())
            pictures = enumerate(itertools.islice(container.decode(stream), last + 1))
            frames = [
                picture.to_ndarray(format="rgb24") for index, picture in pictures if index in wanted
            ]
    except (av.FFmpegError, IndexError) as error:  # the latter where there is no stream
        raise DecodeError(first_line(error)) from None
    if len(frames) != len(indices):
        raise DecodeError(f"{len(frames)} of {len(indices)} frames could be decoded")
    return np.stack(frames)


def _without_padding(frame: Frames) -> Frames:
    """Return a frame (H,W,3) of one for which decord 0.6 says (H,W,C), C > 3.

    Where each padded row happens to be a whole multiple of the width, decord takes the padding for
    more channels, and cannot put such frames into a batch: at widths 16, 24, 48 and 72 on x86-64
    (every even width up to 520 was tried). A row is its pixels, then the padding.
    """
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


READERS: dict[Library, Callable[[bytes, Indices, tuple[int, int, int]], Frames]] = {
    "torchcodec": _by_torchcodec,
    "decord": _by_decord,
    "pyav": _by_pyav,
    "nvdec": _by_nvdec,
}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
