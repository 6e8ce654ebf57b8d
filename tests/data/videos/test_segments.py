"""Segments show the pictures that are on display, in every container and at every beginning.

The oracle knows when each picture appears, as the file was drawn so, and works out by its own
arithmetic what `pipeline.data.decode.timeline` says: the first frame shows what is on display at
`start`, frames lie on a grid through the time when that appeared, each shows what is on display in
the middle of its time, and nothing of what appears at `end` or later is shown.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import decord
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.configuration.schema import Decode
from pipeline.data.decode.transcode import Segment, transcode
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg
from tests.data.videos.conftest import number_of, numbered

X264 = ("-c:v", "libx264", "-preset", "veryfast")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
VPX = ("-deadline", "realtime", "-cpu-used", "8")
STRUCTURES = {  # of the groups of pictures; `G` is the number of pictures from one keyframe on
    "closed": (*X264, "-g", "G", "-bf", "2"),
    "open": (*X264, "-g", "G", "-bf", "2", "-x264-params", "open-gop=1:b-adapt=0"),
    "refresh": (*X264, "-g", "G", "-x264-params", "intra-refresh=1"),
    "long": (*X264, "-g", "1000", "-bf", "2"),
    "hevc": (*X265, "keyint=G:open-gop=1:bframes=3:b-adapt=0:log-level=none"),
    "mpeg2": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "12", "-bf", "2", "-flags", "+cgop",
              "-sc_threshold", "1000000000"),
    "mpeg2open": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "12", "-bf", "2"),
    "mpeg1": ("-c:v", "mpeg1video", "-q:v", "2", "-g", "12", "-bf", "2"),
    "mpeg4": ("-c:v", "mpeg4", "-q:v", "2", "-g", "G", "-bf", "2"),
    "mjpeg": ("-c:v", "mjpeg", "-q:v", "2"),
    "vp8": ("-c:v", "libvpx", "-b:v", "1M", "-g", "G", *VPX),
    "vp9": ("-c:v", "libvpx-vp9", "-g", "G", *VPX, "-lag-in-frames", "16", "-auto-alt-ref", "1"),
    "av1": ("-c:v", "libaom-av1", "-g", "G", "-cpu-used", "8", "-usage", "realtime"),
    "theora": ("-c:v", "libtheora", "-q:v", "8", "-g", "G"),
    "wmv2": ("-c:v", "wmv2", "-q:v", "2", "-g", "G"),
}  # fmt: skip
MUXERS = {
    "fragmented": ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4"),
    "mts": ("-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "mpg": ("-f", "mpeg"),
    "m2v": ("-f", "mpeg2video"),
    "vob": ("-f", "vob"),
    # A raw stream has no times; AV1's header need not say a rate.
    "obu": ("-bsf:v", "av1_metadata=tick_rate=RATE:num_ticks_per_picture=1"),
}
CONSTANT = ("25", "30000/1001")
REGULAR = (*CONSTANT, "1000", "1/2")
ALL = (*REGULAR, "variable")
HOLDS = {  # container -> structures, and the rates that it can say
    "mp4": (("closed", "open", "refresh", "long", "hevc", "mpeg4"), ALL),
    "fragmented": (("closed", "open", "refresh", "long", "hevc"), ALL),
    "mov": (("closed", "open", "mjpeg"), ALL),
    "mkv": (("closed", "open", "refresh", "long", "hevc", "vp9"), ALL),
    "webm": (("vp8", "vp9"), ALL),
    "flv": (("closed", "open", "long"), ALL),
    "ts": (("closed", "open", "refresh", "long", "hevc"), ALL),
    "mts": (("closed", "open", "refresh", "long"), ALL),
    "avi": (("mpeg4", "closed", "open", "mjpeg"), REGULAR),
    "wmv": (("wmv2",), (*CONSTANT, "1/2", "variable")),
    "asf": (("closed", "open", "refresh"), (*CONSTANT, "1/2")),
    "ogv": (("theora",), REGULAR),
    "ogg": (("vp8",), (*CONSTANT, "1/2")),  # it counts pictures at a constant rate
    "ivf": (("vp8", "av1"), ALL),
    "mpg": (("mpeg2", "mpeg2open", "mpeg1"), CONSTANT),
    "vob": (("mpeg2open",), CONSTANT),
    "mxf": (("mpeg2open",), CONSTANT),
    "m2v": (("mpeg2", "mpeg2open"), CONSTANT),
    "h264": (("closed", "open", "refresh", "long"), REGULAR),
    "hevc": (("hevc",), REGULAR),
    "obu": (("av1",), REGULAR),
}
KINDS = [
    (container, structure, rate)
    for container, (structures, rates) in HOLDS.items()
    for structure in structures
    for rate in rates
    # MPEG-4 counts no more than 65,535 ticks a second, and libvpx is slow at 1,000 pictures.
    if (structure, rate) != ("mpeg4", "variable")
]
COUNTS = {"1000": 300, "1/2": 12}  # pictures; else 150
GAP_S, GAP_AT = 4, 50  # of a variable rate: nothing new for so long, before this picture
BEGINNINGS = ("zero", "key", "between", "near the end", "gap", "beyond")


class Source(NamedTuple):
    path: Path
    times: list[Fraction]  # when each picture appears, in seconds
    rate: Fraction


def times_of(rate: str) -> list[Fraction]:
    count = range(COUNTS.get(rate, 150))
    if rate != "variable":
        return [number / Fraction(rate) for number in count]
    uneven = [Fraction(number, 25) + Fraction(number % 3 == 1, 100) for number in count]
    return [time + GAP_S * (number >= GAP_AT) for number, time in enumerate(uneven)]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Source]:
    """A function that draws a video of numbered pictures."""
    folder = tmp_path_factory.mktemp("segments")

    @cache
    def make(container: str, structure: str, rate: str) -> Source:
        times = times_of(rate)
        per_second = Fraction("25" if rate == "variable" else rate)
        suffix = {"fragmented": "mp4"}.get(container, container)
        path = folder / f"{container}_{structure}_{rate.replace('/', '-')}.{suffix}"
        raw = b"".join(numbered(number)[..., 0].tobytes() for number in range(len(times)))
        group = "3" if rate == "1/2" else "30"
        command = [ffmpeg.executable(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray"]
        command += ["-s", "64x64", "-r", str(per_second), "-i", "pipe:0", "-pix_fmt", "yuv420p"]
        if rate == "variable":
            uneven = f"N/25+eq(mod(N,3),1)/100+{GAP_S}*gte(N,{GAP_AT})"
            command += ["-vf", f"settb=1/1000,setpts='round(({uneven})/TB)'"]
            command += ["-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
        command += [word.replace("G", group) if word.startswith(("G", "keyint")) else word
                    for word in STRUCTURES[structure]]  # fmt: skip
        command += [word.replace("RATE", str(per_second)) for word in MUXERS.get(container, ())]
        subprocess.run([*command, path], input=raw, check=True)
        return Source(path, times, per_second)

    return make


def part_of(source: Source, beginning: str) -> tuple[float, float]:
    """Return start and end in seconds."""
    times, frame = source.times, 1 / source.rate
    start = {
        "zero": Fraction(0),
        "key": times[min(30, len(times) // 2)],
        "between": times[len(times) // 3] + frame * Fraction(37, 100),
        "near the end": times[-len(times) // 4] + frame * Fraction(9, 10),
        "gap": times[min(GAP_AT, len(times)) - 1] + Fraction(GAP_S, 2),
        "beyond": times[-1] + 3 * frame + 1,
    }[beginning]
    return round(float(start), 4), round(float(start + times[-1] * Fraction(21, 100)), 4)


def expected(times: list[Fraction], start: float, end: float, rate: Fraction) -> list[int]:
    """Return the numbers that a segment shows, if the last picture is shown for ever."""
    begin = Fraction(str(start))
    shown = max(k for k, time in enumerate(times) if time <= begin + Fraction(1, 1000))
    grid = times[shown] + math.floor((begin + Fraction(1, 1000) - times[shown]) * rate) / rate
    count = math.floor((Fraction(str(end)) - begin) * rate + Fraction(1, 2))
    middles = [grid + (k + Fraction(1, 2)) / rate for k in range(count)]
    return [max(k for k, time in enumerate(times) if time < middle) for middle in middles]


def check(source: Source, beginning: str, decode: Decode, clip: Path) -> None:
    start, end = part_of(source, beginning)
    made = transcode(source.path, clip, Segment(start, end), decode)
    told = f"{source.path.name} {start} to {end}: {made}"
    if beginning == "beyond":
        assert made.outcome is Outcome.TOO_SHORT, told
        assert "its pictures end at" in made.reason, told
        return
    assert made.outcome is Outcome.OK, told
    got = [number_of(frame.asnumpy()) for frame in decord.VideoReader(str(clip), num_threads=1)]
    right = expected(source.times, start, end, Fraction(made.fps).limit_denominator(100_000))
    # Containers do not agree on how long the last picture is shown.
    assert got == right[: len(got)], told
    last = len(source.times) - 1
    assert len(got) == len(right) or (right[len(got)] == last and got[-1] == last), told
    slack = Fraction(1, 1000)  # as for the beginning
    assert all(source.times[number] < end + slack for number in got), told


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), beginning=st.sampled_from(BEGINNINGS))
def test_some_segments_show_what_is_on_display(
    kind: tuple[str, str, str],
    beginning: str,
    source: Callable[[str, str, str], Source],
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Catches, by chance, what the next test catches for certain."""
    if beginning == "gap" and kind[2] != "variable":
        beginning = "between"
    lenient = decode.model_copy(update={"min_frames": 1})
    check(source(*kind), beginning, lenient, tmp_path / "clip.mp4")


@pytest.mark.system
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_every_segment_shows_what_is_on_display(
    kind: tuple[str, str, str],
    source: Callable[[str, str, str], Source],
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Catches a seek that lands late or early, times that begin anew, a picture dropped at the
    beginning, and one shown after the end, in any container and structure, at any rate."""
    lenient = decode.model_copy(update={"min_frames": 1})
    for beginning in BEGINNINGS:
        if beginning != "gap" or kind[2] == "variable":
            check(source(*kind), beginning, lenient, tmp_path / "clip.mp4")


def test_times_of_decoding_alone_are_refused_where_they_are_uneven(
    source: Callable[[str, str, str], Source], decode: Decode, tmp_path: Path
) -> None:
    """Catches times that ASF says of pictures out of order, taken for those of their display."""
    video = source("asf", "closed", "variable").path
    made = transcode(video, tmp_path / "clip.mp4", Segment(), decode)
    assert made.outcome is Outcome.CORRUPT, made
    assert "those of decoding" in made.reason


@pytest.mark.parametrize(("gap", "outcome"), [(0.0, Outcome.OK), (4.0, Outcome.CORRUPT)])
def test_times_that_go_back_are_counted_or_refused(
    gap: float,
    outcome: Outcome,
    source: Callable[[str, str, str], Source],
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Catches pictures of a program stream that are dropped, as two seem to appear at one time; and
    a count that is believed where its times lie apart."""
    video = source("mpg", "mpeg2open", "25").path
    if gap:
        later = tmp_path / "later.mpg"
        command = [ffmpeg.executable(), "-v", "error", "-i", video, "-c", "copy"]
        command += ["-output_ts_offset", str(gap + 6), later]
        subprocess.run(command, check=True)
        joined = tmp_path / "joined.mpg"
        joined.write_bytes(video.read_bytes() + later.read_bytes())
        video = joined
    made = transcode(video, tmp_path / "clip.mp4", Segment(), decode)
    assert made.outcome is outcome, made
    if outcome is Outcome.OK:
        frames = decord.VideoReader(str(tmp_path / "clip.mp4"), num_threads=1)
        assert [number_of(frame.asnumpy()) for frame in frames] == list(range(150))
    else:
        assert "times of its pictures go back" in made.reason


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("late", [0.0, 2.0])
def test_time_counts_from_where_the_sound_begins(
    suffix: str, late: float, decode: Decode, tmp_path: Path
) -> None:
    """Catches time that counts from the first picture where the sound begins seconds earlier; from
    the encoder's run-up, milliseconds earlier; and pictures after the end of the segment."""
    video = tmp_path / f"late.{suffix}"
    raw = b"".join(numbered(number)[..., 0].tobytes() for number in range(100))
    command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=6"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x64", "-r", "25", "-i", "pipe:0"]
    command += ["-vf", f"setpts=PTS+{late}/TB", "-fps_mode", "passthrough", "-c:v", "libx264"]
    command += ["-g", "25", "-c:a", "aac", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, video], input=raw, check=True)
    for start, end, numbers in (
        (1.0, 3.0, range(25, 75) if not late else range(25)),
        (3.0, 4.0, range(75, 100) if not late else range(25, 50)),
        (None, 3.0, range(75) if not late else range(25)),
        (None, None, range(100)),
    ):
        made = transcode(video, tmp_path / "clip.mp4", Segment(start, end), decode)
        frames = decord.VideoReader(str(tmp_path / "clip.mp4"), num_threads=1)
        assert [number_of(frame.asnumpy()) for frame in frames] == list(numbers), (start, end, made)
        assert made.outcome is Outcome.OK
        # An mpeg-ts does not say where the encoder's run-up ends.
        late_told = "the pictures begin at 2.0" in made.reason
        assert late_told == bool(late and (start or 0) < 2), made.reason


@pytest.mark.parametrize("sound", [True, False])
def test_a_change_midway_loses_nothing_and_keeps_colours(
    sound: bool, decode: Decode, tmp_path: Path
) -> None:
    """Catches filters that begin anew where size or colours change: frames lost, or shown twice,
    and colours that are taken for those of another matrix from there on."""
    parts = []
    for number, (size, matrix) in enumerate((("64x64", "bt709"), ("128x96", "smpte170m"))):
        parts.append(tmp_path / f"{number}.h264")
        command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i"]
        command += [f"color=0xC02010:s={size}:r=25:d=2", "-vf", f"scale=out_color_matrix={matrix}"]
        command += [
            "-colorspace",
            matrix,
            "-pix_fmt",
            "yuv420p",
            "-g",
            "25",
            "-bf",
            "0",
            "-crf",
            "5",
        ]
        subprocess.run([*command, parts[-1]], check=True)
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = tmp_path / "joined.mkv"
    command = [ffmpeg.executable(), "-v", "error", "-r", "25", "-i", joined]
    if sound:
        command += ["-f", "lavfi", "-i", "sine=duration=4", "-c:a", "aac"]
    subprocess.run(
        [*command, "-c:v", "copy", "-bsf:v", "setts=ts=N:time_base=1/25", video], check=True
    )
    for segment, count in ((Segment(), 100), (Segment(1.0, 3.0), 50)):
        made = transcode(video, tmp_path / "clip.mp4", segment, decode)
        assert (made.outcome, made.frames, made.width, made.height) == (Outcome.OK, count, 64, 64)
        frames = decord.VideoReader(str(tmp_path / "clip.mp4"), num_threads=1)
        colours = np.array([frame.asnumpy().mean(axis=(0, 1)) for frame in frames])
        assert np.abs(colours - colours[0]).max() < 4, colours[[0, -1]]
