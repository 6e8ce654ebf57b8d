"""Each codec of shards written and read back, by each library that decodes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pipeline.cli.doctor.findings import Finding, missing, ok
from pipeline.cli.doctor.videos import for_trial, tiny_clip
from pipeline.cli.doctor.workplace import version_of
from pipeline.configuration.schema import Decode, Params, Shards
from pipeline.data.load import clip_reader
from pipeline.data.load.decoders import MODULES, DecodeError, Decoder, Frames, problem_of
from pipeline.data.records import Outcome
from pipeline.data.shards.format import ClipEntry, clips_file
from pipeline.data.shards.shard_stage import pack
from pipeline.errors import UserError, first_line

Codec = Literal["h264", "jpeg", "raw"]
# Mean difference in grey levels from the frames that H.264 gives, above which a codec is broken.
LIKE = {"h264": 0.0, "jpeg": 8.0, "raw": 0.0}


def codecs(params: Params) -> Iterator[Finding]:
    """Shards of one tiny clip, written by the stage's own code."""
    for codec in get_args(Codec):
        needed = params.data.shards.codec == codec
        with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
            try:
                entry = packed(Path(folder), params.data.decode, codec)
                plain = packed(Path(folder), params.data.decode, "h264")
                expected = _frames(plain, "decord")
                difference = np.abs(expected.astype(float) - _frames(entry, "decord")).mean()
            except (UserError, DecodeError, OSError, RuntimeError) as error:
                problem = first_line(error)
                yield missing(f"codec {codec}", problem, "see decode above", needed=needed)
                continue
        if difference > LIKE[codec]:
            problem = f"gives other pixels than it was given ({difference:.1f} grey levels off)"
            yield missing(f"codec {codec}", problem, "make setup", needed=needed)
        else:
            yield ok(f"codec {codec}", f"written and read back, {entry.size:,} bytes")


def decoders(params: Params) -> Iterator[Finding]:
    """The libraries that decode h264 while training."""
    h264 = params.data.shards.codec == "h264"
    asked_for = {run.trainer.decoder for run in params.runs.values()} if h264 else set()
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        entry = packed(Path(folder), params.data.decode, "h264")
        for library, module in MODULES.items():
            needed = library in asked_for and library != "decord"  # another one takes its place
            if library == "nvdec" and not needed:
                continue  # most machines have none
            problem = problem_of(library)
            if problem is not None:
                yield missing(library, *problem, needed=needed)
                continue
            try:
                shape = _frames(entry, library).shape
            except (UserError, DecodeError, OSError) as error:
                yield missing(library, first_line(error), "make setup", needed=True)
            else:
                version = version_of(module.split(".")[0])
                yield ok(library, f"{version}, decoded {shape[0]} frames")


def packed(folder: Path, settings: Decode, codec: Codec) -> ClipEntry:
    """Return the only clip of a shard that is made in `folder`."""
    record, done = tiny_clip(folder, for_trial(settings))
    if done.outcome is not Outcome.OK:
        raise UserError(f"no clip to try it with: {done.reason}")
    tars = folder / codec
    pack([record], tars, 0, Shards(codec=codec, clips_per_shard=1), folder / "decoded.json")
    tar = next(tars.glob("*.tar"))
    return ClipEntry.parse(clips_file(tar).read_text(encoding="utf-8").splitlines()[0], tar)


def _frames(entry: ClipEntry, library: Decoder) -> Frames:
    return clip_reader.read(entry, np.arange(entry.frames), None, library)
