"""The videos that are measured on, and the shards that are made of them by the real stages."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import decord
import yaml

from pipeline.configuration import composition
from pipeline.configuration.schema import Params, Shards
from pipeline.data.decode.transcode import Segment, transcode
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import format, shard_stage
from pipeline.data.shards.format import ClipEntry, ShardSummary
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.runtime import ffmpeg
from pipeline.runtime.files import read_json, sha256_file

SECONDS, RATE = 10, 30
SIZES = ("640x360", "480x360", "1280x720", "340x256", "640x480", "1920x1080")


def settings(*overrides: str) -> Params:
    """Return the configuration of a public data set at full size (data=k400)."""
    text = composition.compose(["experiment=tiny", "data=k400", *overrides])
    return composition.validate(yaml.safe_load(text), place="benchmarks")


def videos(folder: Path | None, into: Path, sizes: Sequence[str] = SIZES) -> list[Path]:
    """Return the files of a folder, or generated videos of ten seconds, in `into`."""
    if folder is not None:
        if not folder.is_dir():
            raise UserError("there is no such folder of videos", place=str(folder))
        return sorted(path for path in folder.iterdir() if path.is_file())
    into.mkdir(parents=True, exist_ok=True)
    return [_generated(into / f"generated_{k}.mp4", size) for k, size in enumerate(sizes)]


def _generated(path: Path, size: str) -> Path:
    """Write a moving test picture with the noise of a camera and the keyframes of a phone."""
    source = f"testsrc2=size={size}:rate={RATE}:duration={SECONDS},noise=alls=12:allf=t"
    command = [ffmpeg.executable(), "-v", "error", "-nostdin", "-f", "lavfi", "-i", source]
    command += ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-g", "250"]
    subprocess.run([*command, str(path)], check=True)
    return path


def long_enough(files: Sequence[Path], frames: int, side: int) -> list[Path]:
    """Return the files of at least so many frames and pixels that decord can read."""
    chosen = []
    for path in files:
        try:
            reader = decord.VideoReader(str(path), num_threads=1)
            height, width = reader[0].shape[:2]
        except (decord.DECORDError, RuntimeError):
            continue
        if len(reader) >= frames and min(height, width) >= side:
            chosen.append(path)
    if not chosen:
        raise UserError(f"no video has {frames} frames and {side} pixels on its short side")
    return chosen


def decoded(files: Sequence[Path], into: Path, params: Params) -> list[ClipRecord]:
    """Transcode the files as the decode stage does; return the records of the clips."""
    into.mkdir(parents=True, exist_ok=True)
    records = []
    for path in files:
        target = into / f"{path.stem}.mp4"
        made = transcode(path, target, Segment(), params.data.decode)
        if made.outcome is not Outcome.OK:
            raise UserError(f"{path.name} cannot be decoded: {made.reason}")
        records.append(
            ClipRecord(
                id=path.stem,
                outcome=Outcome.OK,
                file=str(target),
                sha256=sha256_file(target),
                bytes=target.stat().st_size,
                frames=made.frames,
                fps=made.fps,
                width=made.width,
                height=made.height,
            )
        )
    return records


def packed(records: Sequence[ClipRecord], into: Path, shards: Shards) -> Sequence[ClipEntry]:
    """Write shards of one codec as the shard stage does; return what the loader reads."""
    shard_stage.pack(list(records), into, 0, shards, into / "decoded.json")
    return entries(into, shards.codec)


def entries(folder: Path, codec: str) -> Sequence[ClipEntry]:
    """Return the clips in a folder of shards."""
    summaries = [read_json(format.summary_file(path)) for path in sorted(folder.glob("*.tar"))]
    listed = tuple(ShardSummary(**summary) for summary in summaries)
    return DatasetIndex(folder, "benchmark", codec, listed, {}, {}, ()).clips(["train"])
