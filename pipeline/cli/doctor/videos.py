"""ffmpeg: writing clips, and reading each codec that videos of the wild come in. All is tried."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline.cli.doctor.findings import Finding, missing, ok, warning
from pipeline.cli.doctor.workplace import output_of
from pipeline.configuration.schema import Decode, Params
from pipeline.data.decode.transcode import Segment, Transcoded, transcode
from pipeline.data.records import ClipRecord, Outcome
from pipeline.runtime import ffmpeg

FRAMES, RATE, SIZE = 12, 12, "128x96"  # of what is tried
INSTALL = "install ffmpeg with libx264 (Debian, Ubuntu: apt install ffmpeg; conda: ffmpeg)"


class Codec(NamedTuple):
    """How a video of one codec is made for the trial: the first encoder that is there."""

    name: str  # as ffmpeg calls its decoder, too
    encoders: tuple[str, ...]
    suffix: str
    options: tuple[str, ...] = ()


CODECS = (
    Codec("h264", ("libx264", "libopenh264"), "mp4"),
    Codec("hevc", ("libx265",), "mp4", ("-x265-params", "log-level=error")),
    Codec("vp8", ("libvpx",), "webm"),
    Codec("vp9", ("libvpx-vp9",), "webm"),
    Codec("av1", ("libsvtav1", "libaom-av1", "librav1e"), "mkv"),
    Codec("mpeg4", ("mpeg4",), "avi"),
    Codec("mpeg2video", ("mpeg2video",), "mpg", ("-r", "25")),
    Codec("mjpeg", ("mjpeg",), "avi", ("-pix_fmt", "yuvj420p")),
    Codec("wmv2", ("wmv2",), "asf"),
    Codec("flv", ("flv",), "flv"),
    Codec("theora", ("libtheora",), "ogg"),
    Codec("prores", ("prores_ks",), "mov"),
)


def transcoding(params: Params) -> Iterator[Finding]:
    """The program; then the project's own transcoding of a tiny video of every codec."""
    program = ffmpeg.executable()
    version = _version(program)
    if version is None:
        yield missing("ffmpeg", f"{program} does not start", INSTALL, needed=True)
        return
    yield ok("ffmpeg", f"{version}, {program}")
    settings = for_trial(params.data.decode)
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        yield _writing(Path(folder), settings)
        yield from _reading(program, Path(folder), settings)


def for_trial(settings: Decode) -> Decode:
    """Return the settings without what would refuse or change a video of a second."""
    return settings.model_copy(update={"min_frames": 1, "max_seconds": None, "fps": None})


def tiny_clip(folder: Path, settings: Decode) -> tuple[ClipRecord, Transcoded]:
    """Draw a video without any codec, transcode it as the decode stage would, and record it."""
    source, target = folder / "plain.y4m", folder / "clip.mp4"
    width, height = (int(side) for side in SIZE.split("x"))
    with source.open("wb") as handle:
        handle.write(f"YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(FRAMES):
            grey = bytes((column + 9 * number) % 256 for column in range(width)) * height
            handle.write(b"FRAME\n" + grey + bytes([128]) * (width * height // 2))
    done = transcode(source, target, Segment(), settings)
    record = ClipRecord(
        id="tiny",
        outcome=done.outcome,
        file=str(target),
        frames=done.frames,
        fps=done.fps,
        width=done.width,
        height=done.height,
    )
    return record, done


def _writing(folder: Path, settings: Decode) -> Finding:
    subject = f"libx264 ({settings.preset}, crf {settings.crf})"
    record, done = tiny_clip(folder, settings)
    if done.outcome is not Outcome.OK:
        return missing(subject, done.reason or str(done.outcome), INSTALL, needed=True)
    return ok(subject, f"wrote {record.frames} frames of {record.width}x{record.height}")


def _reading(program: str, folder: Path, settings: Decode) -> Iterator[Finding]:
    encoders, decoders = _names(program, "-encoders"), _names(program, "-decoders")
    with ThreadPoolExecutor(2) as pool:
        tried = list(
            pool.map(lambda codec: _trial(program, folder, codec, encoders, settings), CODECS)
        )
    read = [codec.name for codec, problem in zip(CODECS, tried, strict=True) if problem == ""]
    if read:
        yield ok("reads", ", ".join(read))
    for codec, problem in zip(CODECS, tried, strict=True):
        if problem is None and codec.name in decoders:
            yield ok(f"reads {codec.name}", "has the decoder; not tried for want of a video")
        elif problem is None:
            remedy = f"such videos will be lost: {INSTALL}"
            yield missing(f"reads {codec.name}", "no decoder", remedy)
        elif problem:
            remedy = "such videos will be lost; try another ffmpeg, or data.decode's limits"
            yield warning(f"reads {codec.name}", problem, remedy)


def _trial(
    program: str, folder: Path, codec: Codec, encoders: set[str], settings: Decode
) -> str | None:
    """Return what went wrong; empty where nothing did; None where no such video can be made."""
    source = folder / f"{codec.name}.{codec.suffix}"
    for encoder in (name for name in codec.encoders if name in encoders):
        command = [program, "-v", "error", "-y", "-nostdin", "-f", "lavfi"]
        command += ["-i", f"testsrc2=size={SIZE}:rate={RATE}", "-frames:v", str(FRAMES)]
        command += ["-threads", "1", "-c:v", encoder, *codec.options, f"file:{source}"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            result = transcode(source, folder / f"{codec.name}.out.mp4", Segment(), settings)
            return "" if result.outcome is Outcome.OK else result.reason or str(result.outcome)
    return None


def _version(program: str) -> str | None:
    printed = output_of([program, "-hide_banner", "-version"])
    if printed is None:
        return None
    match = re.search(r"version (\S+)", printed)
    return match.group(1) if match else "of unknown version"


def _names(program: str, table: str) -> set[str]:
    """Return the names in one of ffmpeg's tables of codecs."""
    printed = output_of([program, "-hide_banner", table]) or ""
    return set(re.findall(r"^ ?[A-Z.]{6} (\S+)", printed, re.MULTILINE))
