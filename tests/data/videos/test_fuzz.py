"""Damaged variants of generated and real files: none crashes, hangs, or passes without a word.

What "passes" promises (docs/decode.md): the clip can be read and has the frames that its record
counts; reader and decoder complained of nothing, as a second, stricter decoding confirms by its
exit status; and, where the format can show it, no more of the original's frames are missing than
the documented tolerance. The first FEW are tried in every run, the others among the system tests;
`--fuzz N --fuzz-seed S` runs others, as many as asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import decord
import pytest

from pipeline.configuration.schema import Decode
from pipeline.data.decode import ffmpeg_log
from pipeline.data.decode.diagnosis import SHORTFALL_S
from pipeline.data.decode.transcode import Segment, Transcoded, transcode
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg
from tests.data.videos.conftest import MakeVideo, number_of
from tests.data.videos.damage import KINDS, damaged

FRAMES, RATE = 100, 25
FEW = 40
GENERATED = {
    "fast.mp4": ("-movflags", "+faststart"),
    "late.mp4": ("-g", "25", "-bf", "2"),
    "r25.mkv": ("-g", "30"),
    "x.avi": ("-c:v", "mpeg4", "-q:v", "2"),
    "v9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"),
    "t.ts": ("-g", "25"),
    "f.flv": ("-g", "25"),
}
LARGEST = 200_000  # bytes of a real file: damage is denser in a small one, and time is short
TIME_LIMIT_S = 10.0
WRONG = 0.1  # share of the pictures that may be other ones: most other bits mean something, too


@dataclass(frozen=True)
class Variant:
    """One damaged file: its number decides everything."""

    number: int
    source: Path
    kind: str
    seed: int

    @property
    def content(self) -> bytes:
        return damaged(self.source.read_bytes(), self.source.suffix, self.kind, self.seed)

    @property
    def frames_are_numbered(self) -> bool:
        return self.source.name in GENERATED

    @property
    def shows_what_is_missing(self) -> bool:
        """Whether lost frames and wrong pictures can be noticed at all.

        An mpeg-ts has no index: what is missing was never there. VP9 has no redundancy: other bits
        are another picture. A number in a header, or before each picture of an flv, may be a time,
        which is true by definition.
        """
        return (
            self.frames_are_numbered
            and self.source.suffix not in {".ts", ".webm", ".flv"}
            and self.kind != "header"
        )


@pytest.fixture(scope="session")
def sources(make_video: MakeVideo, request: pytest.FixtureRequest) -> list[Path]:
    """Generated files of numbered frames, and the small real ones where there are any."""
    made = [make_video(name, FRAMES, *options) for name, options in GENERATED.items()]
    folder = request.config.getoption("--clips") / "good"
    real = sorted(folder.iterdir()) if folder.is_dir() else []
    return made + [path for path in real if path.stat().st_size < LARGEST]


def problem(variant: Variant, made: Transcoded, seconds: float, files: Path) -> str:
    """Say what is wrong with how a variant ended; empty where it is right."""
    if seconds > TIME_LIMIT_S + 5:
        return f"took {seconds:.0f} s"
    if made.outcome is not Outcome.OK:
        if not made.reason or "\n" in made.reason or str(files) in made.reason:
            return f"a bad reason: {made.reason!r}"
        return ""
    reader = decord.VideoReader(str(files / "clip.mp4"), num_threads=1)
    if len(reader) != made.frames:
        return f"{made.frames} frames counted, {len(reader)} there"
    strict = [
        "-v",
        "error",
        "-nostdin",
        "-xerror",
        "-threads",
        "1",
        "-i",
        str(_file(variant, files)),
    ]
    command = [ffmpeg.executable(), *strict, "-map", "0:V:0", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        return f"passed, but: {done.stderr.decode(errors='replace')[:200]}"
    if variant.shows_what_is_missing:
        shown = {number_of(frame.asnumpy()) for frame in reader}
        if FRAMES - len(reader) > SHORTFALL_S * RATE + 2:
            return f"{FRAMES - len(reader)} frames are missing"
        if (wrong := len(set(range(FRAMES)) - shown)) > WRONG * FRAMES:
            return f"{wrong} frames are missing or wrong"
    return ""


def _file(variant: Variant, files: Path) -> Path:
    return files / f"damaged{variant.source.suffix}"


@pytest.mark.parametrize("part", ["few", pytest.param("rest", marks=pytest.mark.system)])
def test_no_damaged_file_crashes_hangs_or_passes_silently(
    sources: list[Path],
    decode: Decode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    part: str,
) -> None:
    """Would catch a log of some version of ffmpeg that is no longer understood: half of the
    variants go through the system's, half through imageio-ffmpeg's, years apart."""
    numbers = range(FEW) if part == "few" else range(FEW, request.config.getoption("--fuzz"))
    count, seed = len(numbers), request.config.getoption("--fuzz-seed")
    limited = decode.model_copy(update={"time_limit_s": TIME_LIMIT_S})
    kinds = list(KINDS)
    variants = [
        Variant(n, sources[n % len(sources)], kinds[n // len(sources) % len(kinds)], seed + n)
        for n in numbers
    ]

    def tried(variant: Variant) -> tuple[str, str, str]:
        files = tmp_path / str(variant.number)
        files.mkdir()
        _file(variant, files).write_bytes(variant.content)
        began = time.monotonic()
        made = transcode(_file(variant, files), files / "clip.mp4", Segment(), limited)
        wrong = problem(variant, made, time.monotonic() - began, files)
        for path in files.iterdir():
            path.unlink()
        return variant.kind, made.outcome.value, wrong and f"{variant}: {made}: {wrong}"

    results: list[tuple[str, str, str]] = []
    builds = sorted({ffmpeg.executable(), shutil.which("ffmpeg") or ffmpeg.executable()})
    for place, build in enumerate(builds):
        monkeypatch.setattr(ffmpeg, "executable", lambda build=build: build)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results += pool.map(tried, variants[place :: len(builds)])
    wrong = [text for _, _, text in results if text]
    print(Counter((kind, outcome) for kind, outcome, _ in results))
    assert not wrong, "\n".join(wrong)
    assert len(results) == count
    outcomes = Counter(outcome for _, outcome, _ in results)
    assert outcomes["ok"] <= 0.5 * count, "most damage is noticed"
    if count >= 160:
        assert len(outcomes) >= 4


def test_a_full_disk_is_no_damage_of_the_video() -> None:
    """Would catch a video lost for good because the encoder or the writer complained."""
    for line in (
        "[libx264 @ 0x1] [error] malloc of size 5 failed",
        "[mp4 @ 0x1] [error] Error writing trailer: No space left on device",
        "[out#0/mp4 @ 0x1] [error] Error muxing a packet",
        "[vost#0:0/libx264 @ 0x1] [error] Error submitting a packet to the muxer",
        "[error] av_interleaved_write_frame(): No space left on device",
    ):
        log = ffmpeg_log.FfmpegLog(opened=True)
        log.read_line(line)
        assert not log.damaged, line
