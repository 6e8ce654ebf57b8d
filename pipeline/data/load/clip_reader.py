"""Frames of a clip as it lies in a shard, of any codec: reads and decodes what is asked for alone.

h264: one read of the whole clip, as its frames depend on one another. jpeg: the offsets, then the
wanted images, in one read where they lie close together. raw: the wanted rectangle of each frame,
out of mapped memory. The codecs' pixels differ by JPEG's error; h264 and raw are equal.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import simplejpeg
import xxhash
from numpy.typing import NDArray

from pipeline.data.load.crops import Window
from pipeline.data.load.decoders import DecodeError, Decoder, Frames, Indices
from pipeline.data.load.decoders import read as decode
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import mapped, read_at, read_bytes
from pipeline.data.shards.motion_vectors import Vectors, cells

READ_THROUGH = 2**17  # bytes between two images that cost less than asking a second time


def read(
    entry: ClipEntry, indices: Indices, window: Window | None = None, decoder: Decoder = "decord"
) -> Frames:
    """Return frames of a clip, or a window of each: uint8 (len(indices),h,w,3), RGB.

    An index may occur more than once. Raises DecodeError where the clip's bytes are not those
    that were written, or not what its entry says; UserError where they cannot be read at all.
    """
    window = window or Window(0, 0, entry.height, entry.width)
    if entry.codec == "raw":
        return _raw(entry, indices, window)
    if entry.codec == "jpeg":
        return _jpeg(entry, indices, window)
    shape = (entry.frames, entry.height, entry.width)
    video = read_bytes(entry)
    if entry.xxh3 is not None and xxhash.xxh3_64_intdigest(video) != entry.xxh3:
        raise DecodeError("its bytes are not those that were written (checksum)")
    return decode(video, indices, shape, decoder)[:, window.rows, window.columns]


def read_vectors(entry: ClipEntry) -> Vectors:
    """Return the motion vectors that a clip's shard holds: int8 (T,R,C,2)."""
    shape = (entry.frames, *cells(entry.height, entry.width), 2)
    vectors: Vectors = _array(entry, entry.motion, math.prod(shape), "motion vectors")
    if vectors.shape != shape or vectors.dtype != np.int8:
        raise DecodeError("its motion vectors do not fit its frames")
    return vectors


def _raw(entry: ClipEntry, indices: Indices, window: Window) -> Frames:
    shape = (entry.frames, entry.height, entry.width, 3)
    header = entry.size - math.prod(shape)
    with mapped(entry) as view:
        if header < 0 or bytes(view[:6]) != b"\x93NUMPY":
            raise DecodeError(f"no array of {entry.frames} frames of {entry.width}x{entry.height}")
        with view[header:] as pixels:
            size = math.prod(shape[1:])
            checks = _checks(entry)
            for index in np.unique(indices).tolist() if checks is not None else ():
                with pixels[index * size : (index + 1) * size] as frame:
                    _check(frame, checks, index)
            return _gathered(pixels, shape, indices, window)


def _gathered(
    pixels: memoryview, shape: tuple[int, ...], indices: Indices, window: Window
) -> Frames:
    """Copy a window of some frames; nothing that is left refers to `pixels`."""
    clip = np.frombuffer(pixels, np.uint8).reshape(shape)
    return clip[indices, window.rows, window.columns]


def _jpeg(entry: ClipEntry, indices: Indices, window: Window) -> Frames:
    distinct, places = np.unique(indices, return_inverse=True)
    frame = np.empty((entry.height, entry.width, 3), np.uint8)
    frames = np.empty((len(distinct), window.height, window.width, 3), np.uint8)
    checks = _checks(entry)
    for k, image in enumerate(_images(entry, distinct)):
        _check(image, checks, int(distinct[k]))
        try:
            decoded = simplejpeg.decode_jpeg(image, buffer=frame)
        except ValueError as error:
            raise DecodeError(f"frame {distinct[k]}: {error}") from None
        if decoded.shape != frame.shape:
            raise DecodeError(f"frame {distinct[k]} has {decoded.shape[1]}x{decoded.shape[0]}")
        frames[k] = frame[window.rows, window.columns]
    return frames if np.array_equal(distinct, indices) else frames[places]


def _images(entry: ClipEntry, indices: Indices) -> list[memoryview]:
    """Return the JPEGs of these frames, whose indices ascend."""
    offsets = _offsets(entry)
    begins, ends = offsets[indices], offsets[indices + 1]
    new_read = np.flatnonzero(begins[1:] - ends[:-1] > READ_THROUGH) + 1
    images: list[memoryview] = []
    for group in np.split(np.arange(len(indices)), new_read):
        first, last = int(begins[group[0]]), int(ends[group[-1]])
        data = memoryview(read_at(entry, entry.offset + first, last - first))
        images += [data[begins[k] - first : ends[k] - first] for k in group]
    return images


def _checks(entry: ClipEntry) -> NDArray[np.uint64] | None:
    """Return the XXH3 of each frame's bytes, uint64 (T,); None for shards that have none."""
    if not entry.checks:
        return None
    checks: NDArray[np.uint64] = _array(entry, entry.checks, 8 * entry.frames, "checksums")
    if checks.shape != (entry.frames,) or checks.dtype != np.uint64:
        raise DecodeError("its checksums do not fit its frames")
    return checks


def _check(frame: memoryview, checks: NDArray[np.uint64] | None, index: int) -> None:
    if checks is not None and xxhash.xxh3_64_intdigest(frame) != int(checks[index]):
        raise DecodeError(f"frame {index}: its bytes are not those that were written (checksum)")


def _array(entry: ClipEntry, offset: int, size: int, what: str) -> NDArray[Any]:
    # numpy pads the header of such an array to 128 bytes.
    table = read_at(entry, offset, 128 + size)
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(table), allow_pickle=False)
    except ValueError as error:
        raise DecodeError(f"its {what} cannot be read: {error}") from None
    return array


def _offsets(entry: ClipEntry) -> Indices:
    """Return where each frame's JPEG begins in the clip's bytes, and the end: int64 (T+1,)."""
    offsets: Indices = _array(entry, entry.table, 8 * (entry.frames + 1), "offsets")
    if (
        offsets.shape != (entry.frames + 1,)
        or offsets.dtype != np.int64
        or offsets[0] != 0
        or offsets[-1] != entry.size
        or (np.diff(offsets) <= 0).any()
    ):
        raise DecodeError("its offsets do not fit its frames and bytes")
    return offsets
