"""Clips hold exactly the frames asked for, upright, and no damaged video passes for a good one.

decord reads the clips back: another reader than the one that counted the frames.
"""

from __future__ import annotations

import math
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import decord
import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.configuration.schema import Decode
from pipeline.data.decode.transcode import Segment, Transcoded, transcode
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg
from tests.data.videos.conftest import MakeVideo, number_of

WHOLE = Segment()
FRAMES = 100  # of a numbered video
RATES = {"25": Fraction(25), "30000/1001": Fraction(30000, 1001), "10": Fraction(10)}


def numbers(path: Path) -> list[int]:
    """Read back which frames a clip of numbered frames holds."""
    reader = decord.VideoReader(str(path), num_threads=1)
    return [number_of(frame.asnumpy()) for frame in reader]


def run_ffmpeg(*arguments: str | Path) -> str:
    command = [ffmpeg.executable(), "-hide_banner", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


SLACK = Fraction(1, 1000)  # seconds


def shown_at(frame: int, rate: Fraction, suffix: str) -> Fraction:
    """When a file says that a frame appears: Matroska rounds times to milliseconds."""
    exact = frame / rate
    return Fraction(round(exact * 1000), 1000) if suffix == "mkv" else exact


def expected(start: float, end: float, rate: Fraction, suffix: str = "mp4") -> list[int]:
    """The frames of a segment by its definition, in exact numbers."""
    latest = Fraction(str(start)) + SLACK
    first = math.floor(latest * rate) + 1
    while first and shown_at(first, rate, suffix) > latest:
        first -= 1
    count = math.floor((Fraction(end) - Fraction(start)) * rate + Fraction(1, 2))
    return list(range(first, min(FRAMES, first + count)))


# Half a frame is rounded by floats in ffmpeg: hundredths keep away from it at these rates, but
# for 25 a second, where 0.02 s is half a frame; so those lengths are left out.
times = st.integers(0, 380).map(lambda hundredths: hundredths / 100)
lengths = st.integers(10, 300).map(lambda hundredths: hundredths / 100)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=times, length=lengths)
def test_a_segment_holds_exactly_its_frames(
    suffix: str,
    rate: str,
    start: float,
    length: float,
    make_video: MakeVideo,
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Would catch a cut at a keyframe, off by one, and rounded time stamps (mkv)."""
    per_second = RATES[rate]
    if (Fraction(str(length)) * per_second + Fraction(1, 2)).denominator == 1:
        length += 0.001
    # A picture that appears exactly where the slack ends is on display or not, as floats round.
    latest = Fraction(str(start)) + SLACK
    near = math.floor(latest * per_second)
    assume(all(shown_at(k, per_second, suffix) != latest for k in (near, near + 1)))
    source = make_video(f"r{float(per_second):.0f}.{suffix}", FRAMES, "-g", "30", rate=rate)
    end = round(start + length, 3)
    wanted = expected(start, end, per_second, suffix)
    made = transcode(source, tmp_path / "clip.mp4", Segment(start, end), decode)
    if len(wanted) < decode.min_frames:
        assert made.outcome is Outcome.TOO_SHORT
        return
    assert (made.outcome, made.frames) == (Outcome.OK, len(wanted))
    assert numbers(tmp_path / "clip.mp4") == wanted
    missing = (end - start) * float(per_second) - len(wanted)
    assert bool(made.reason) == (missing > 1.5), "only a shortened segment needs a word"


def test_a_whole_video_keeps_every_frame_in_order(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a lost first or last frame, at any rate and in any container."""
    for name, options in {
        "b.mp4": ("-bf", "3"),
        "open.mkv": ("-g", "25"),
        "x.avi": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
        "v.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
        "t.ts": ("-bf", "2"),
        "late.mp4": ("-bf", "2", "-output_ts_offset", "7.5"),
    }.items():
        made = transcode(make_video(name, FRAMES, *options), tmp_path / "c.mp4", WHOLE, decode)
        assert (made.outcome, made.frames, made.fps) == (Outcome.OK, FRAMES, 25.0), name
        assert numbers(tmp_path / "c.mp4") == list(range(FRAMES)), name


def test_another_rate_shows_the_nearest_frames(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch dropping in bursts, and a clip that runs faster than its source."""
    other = decode.model_copy(update={"fps": 10.0})
    source = make_video("r25.mp4", FRAMES, "-g", "30")
    made = transcode(source, tmp_path / "c.mp4", Segment(1.0, 3.0), other)
    assert (made.frames, made.fps) == (20, 10.0)
    shown = np.array(numbers(tmp_path / "c.mp4"))
    assert np.all(np.abs(shown - (25 + 2.5 * np.arange(20))) <= 1.25)


def test_max_seconds_ends_the_clip(make_video: MakeVideo, decode: Decode, tmp_path: Path) -> None:
    """Would catch a limit that is only applied to segments, or not to them."""
    limited = decode.model_copy(update={"max_seconds": 1.2})
    source = make_video("r25.mp4", FRAMES, "-g", "30")
    for segment, first in ((WHOLE, 0), (Segment(1.0, 3.5), 25), (Segment(2.0), 50)):
        made = transcode(source, tmp_path / "c.mp4", segment, limited)
        assert (made.outcome, made.reason) == (Outcome.OK, "")
        assert numbers(tmp_path / "c.mp4") == list(range(first, first + 30))


def test_a_variable_rate_becomes_constant_and_keeps_time(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch frames that are packed together: what was shown longer must be there twice."""
    source = tmp_path / "variable.mp4"
    # Every third frame is missing; the ones before them are shown for two periods.
    run_ffmpeg("-i", make_video("r25.mp4", FRAMES, "-g", "30"), "-vf", "select='mod(n+1\\,3)'",
               "-fps_mode", "vfr", "-crf", "5", source)  # fmt: skip
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert made.fps == 25.0
    shown = numbers(tmp_path / "c.mp4")
    assert shown == [n - (n % 3 == 2) for n in range(len(shown))]
    assert len(shown) in (FRAMES - 1, FRAMES)


def test_a_clip_is_what_the_loader_relies_on(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a long or open GOP, B-frames, sound, another pixel format, and uneven times."""
    source = tmp_path / "sound.mkv"
    run_ffmpeg("-i", make_video("r25.mp4", FRAMES, "-g", "30"), "-f", "lavfi", "-i",
               "sine=duration=4", "-c:v", "copy", "-metadata", "title=Tuba", source)  # fmt: skip
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    reader = decord.VideoReader(str(tmp_path / "c.mp4"), num_threads=1)
    assert len(reader) == made.frames == FRAMES
    assert reader.get_key_indices() == list(range(0, FRAMES, decode.gop))
    times = reader.get_frame_timestamp(range(FRAMES))[:, 0]
    np.testing.assert_allclose(times, np.arange(FRAMES) / 25, atol=1e-4)
    log = run_ffmpeg("-i", tmp_path / "c.mp4", "-vf", "showinfo", "-f", "null", "-")
    assert len(re.findall(r"Stream #0:\d+.*(?:Video|Audio|Data)", log.split("Output #0")[0])) == 1
    assert re.search(r"Video: h264 .*, yuv420p\(", log)
    assert "Tuba" not in log
    assert set(re.findall(r" type:(\w)", log)) == {"I", "P"}
    content = (tmp_path / "c.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first"


def test_equal_input_gives_equal_bytes(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch time stamps, names and thread counts in the output."""
    source = make_video("r25.mp4", FRAMES, "-g", "30")
    elsewhere = tmp_path / "a 'strange', name: of %d [file].mp4"
    elsewhere.write_bytes(source.read_bytes())
    for path, target in ((source, "a.mp4"), (elsewhere, "b.mp4")):
        made = transcode(path, tmp_path / target, Segment(0.5, 2.5), decode)
        assert made.outcome is Outcome.OK
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (("-vf", "scale=96:64"), (96, 64)),
        (("-vf", "scale=64:98"), (64, 98)),
        (("-vf", "scale=96:64,setsar=2"), (192, 64)),
        (("-vf", "scale=96:64,setsar=1/3"), (64, 128)),
        (("-vf", "scale=37:21", "-c:v", "libvpx-vp9", "-cpu-used", "8"), (112, 64)),
        (("-vf", "scale=640:360"), (114, 64)),
        (("-pix_fmt", "yuv444p10le", "-vf", "scale=96:64"), (96, 64)),
        (("-pix_fmt", "yuvj420p", "-vf", "scale=96:64:out_range=pc"), (96, 64)),
    ],
)
def test_pixels_are_square_sizes_even_and_the_content_is_all_there(
    options: tuple[str, ...],
    size: tuple[int, int],
    make_video: MakeVideo,
    decode: Decode,
    tmp_path: Path,
) -> None:
    """Would catch anamorphic output, a failure on odd sizes, 10 bits or full range, and a crop."""
    name = "_".join(re.sub(r"\W", "", option) for option in options)
    source = make_video(f"{name}.mkv", 12, "-crf", "5", *options)
    made = transcode(source, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, (made.width, made.height)) == (Outcome.OK, size)
    frame = decord.VideoReader(str(tmp_path / "c.mp4"))[11].asnumpy()
    assert frame.shape == (size[1], size[0], 3)
    assert number_of(frame) == 11
    bright = frame[..., 1] > 128
    assert abs(np.median(frame[bright]) - 225) < 12
    assert abs(np.median(frame[~bright]) - 25) < 12


ODD = {  # what is unusual of a file -> how it is made of frames 0 to 23; what a clip must show
    "no sound": ("a.mp4", (), range(24)),
    "10 bits": ("b.mkv", ("-pix_fmt", "yuv420p10le", "-profile:v", "high10"), range(24)),
    "odd size": (
        "c.webm",
        ("-vf", "scale=75:49", "-c:v", "libvpx-vp9", "-cpu-used", "8"),
        range(24),
    ),
    "late start": ("d.mp4", ("-output_ts_offset", "3.7"), range(24)),
    "negative start": ("e.mkv", ("-bf", "2", "-output_ts_offset", "-0.2"), range(24)),
    "variable rate": (
        "f.mkv",
        ("-vf", "select='mod(n+1\\,3)+eq(n\\,23)'", "-fps_mode", "vfr"),
        [n - (n % 3 == 2 and n < 23) for n in range(24)],
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_every_oddity_gives_the_exact_frames_upright(
    what: str, make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch one frame too many or too few, another pixel format, and an odd size."""
    name, options, shown = ODD[what]
    made = transcode(make_video(f"odd_{name}", 24, *options), tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, made.reason, made.frames) == (Outcome.OK, "", len(shown))
    assert numbers(tmp_path / "c.mp4") == list(shown)
    assert made.width % 2 == made.height % 2 == 0
    assert ", yuv420p(" in run_ffmpeg("-i", tmp_path / "c.mp4", "-f", "null", "-")


def test_a_video_cut_between_keyframes_begins_where_it_says(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch frames that an edit list hides, and a first keyframe that nobody misses."""
    whole, cut = make_video("cut_me.mp4", 50, "-g", "25", "-bf", "0"), tmp_path / "cut.mp4"
    run_ffmpeg("-ss", "0.32", "-i", whole, "-c", "copy", cut)
    made = transcode(cut, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.outcome, numbers(tmp_path / "c.mp4")) == (Outcome.OK, list(range(8, 50)))
    run_ffmpeg("-i", whole, "-c", "copy", "-bsf:v", "noise=drop=not(n)", tmp_path / "headless.mkv")
    made = transcode(tmp_path / "headless.mkv", tmp_path / "c.mp4", WHOLE, decode)
    assert made.outcome is Outcome.CORRUPT, numbers(tmp_path / "c.mp4")


def test_a_rotated_video_comes_out_upright(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a phone's video lying on its side, or turned twice by the next reader."""
    plain = make_video("wide.mp4", 8, "-vf", "scale=96:64", "-crf", "5")
    turned = tmp_path / "turned.mp4"
    # The system's may be too old for this option; to read such a file it is not.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90"]
    subprocess.run([*command, "-i", plain, "-c", "copy", turned], check=True)
    made = transcode(turned, tmp_path / "c.mp4", WHOLE, decode)
    assert (made.frames, made.width, made.height) == (8, 64, 96)
    upright = decord.VideoReader(str(tmp_path / "c.mp4"))[7].asnumpy()
    assert number_of(np.rot90(upright, -1)) == 7  # the rotation is counter-clockwise


def test_a_segment_beyond_the_end_is_too_short_and_says_so(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch an empty clip that passes, and one that is called corrupt."""
    source = make_video("r25.mp4", FRAMES, "-g", "30")
    made = transcode(source, tmp_path / "c.mp4", Segment(6.0, 8.0), decode)
    assert made.outcome is Outcome.TOO_SHORT
    assert made.reason == "the segment begins at 6 s, its pictures end at 4 s"
    made = transcode(source, tmp_path / "c.mp4", Segment(3.0, 5.0), decode)
    assert (made.outcome, made.frames) == (Outcome.OK, 25)
    assert made.reason == "the video ends 1.00 s before the segment does"


def test_a_cover_picture_is_no_video(decode: Decode, tmp_path: Path) -> None:
    """Would catch a song with a cover becoming a clip of one frame, or too short."""
    cover, song = tmp_path / "cover.jpg", tmp_path / "song.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", cover)
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-i", cover, "-map", "0", "-map", "1",
               "-c:v", "copy", "-disposition:v", "attached_pic", song)  # fmt: skip
    assert transcode(song, tmp_path / "c.mp4", WHOLE, decode).outcome is Outcome.NO_VIDEO_STREAM


def test_a_playlist_opens_no_other_file(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a downloaded text file making ffmpeg read whatever it names."""
    secret = make_video("r25.mp4", FRAMES, "-g", "30")
    playlists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{secret}\n#EXT-X-ENDLIST\n",
        "binary": f"#EXTM3U\n#\x01\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{secret}\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
    }
    for name, text in playlists.items():
        for suffix in ("mp4", "m3u8", "ffconcat"):
            path = tmp_path / f"{name}.{suffix}"
            path.write_text(text)
            made = transcode(path, tmp_path / "c.mp4", WHOLE, decode)
            assert made.outcome is Outcome.NOT_A_VIDEO, (name, suffix, made)


def test_limits_end_a_video_that_takes_too_much(
    make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a hanging job, and a limit reported as damage."""
    source = make_video("r25.mp4", FRAMES, "-g", "30")
    slow = decode.model_copy(update={"time_limit_s": 0.01, "short_side": 1024})
    made = transcode(source, tmp_path / "c.mp4", WHOLE, slow)
    assert made.outcome is Outcome.TIMED_OUT
    assert "0.01 s" in made.reason
    large = decode.model_copy(update={"memory_limit_mib": 300, "short_side": 4096})
    made = transcode(source, tmp_path / "c.mp4", WHOLE, large)
    assert made.outcome in (Outcome.FAILED, Outcome.TIMED_OUT), made
    assert "300 MiB" in made.reason


def _same(made: Transcoded, clip: Path, reference: Path) -> bool:
    return made.outcome is Outcome.OK and clip.read_bytes() == reference.read_bytes()


@pytest.mark.parametrize("name", ["r25.mp4", "fast.mp4", "r25.mkv", "x.avi", "r25.flv"])
def test_a_file_that_was_cut_short_never_passes(
    name: str, make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch an interrupted download that becomes a shorter clip without a word."""
    options = {"fast.mp4": ("-movflags", "+faststart"), "x.avi": ("-c:v", "mpeg4", "-q:v", "2")}
    source = make_video(name, FRAMES, *options.get(name, ("-g", "30")))
    reference, clip = tmp_path / "reference.mp4", tmp_path / "c.mp4"
    assert transcode(source, reference, WHOLE, decode).outcome is Outcome.OK
    content = source.read_bytes()
    cut = tmp_path / f"cut{source.suffix}"
    for share in (0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        cut.write_bytes(content[: int(len(content) * share)])
        made = transcode(cut, clip, WHOLE, decode)
        if name == "r25.flv" and share == 0.99:  # one frame of 100 is less than can be told
            continue
        assert made.outcome is not Outcome.OK or _same(made, clip, reference), (share, made)
        assert made.outcome is Outcome.OK or made.reason
        assert str(tmp_path) not in made.reason


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), noise=st.binary(min_size=1, max_size=400))
def test_damage_anywhere_gives_a_record_and_never_an_exception(
    place: float, noise: bytes, make_video: MakeVideo, decode: Decode, tmp_path: Path
) -> None:
    """Would catch a crash of ours on any log or status that damaged bytes can bring about."""
    content = bytearray(make_video("fast.mp4", FRAMES, "-movflags", "+faststart").read_bytes())
    start = int(place * (len(content) - len(noise)))
    content[start : start + len(noise)] = noise
    (tmp_path / "damaged.mp4").write_bytes(content)
    made = transcode(tmp_path / "damaged.mp4", tmp_path / "c.mp4", WHOLE, decode)
    if made.outcome is Outcome.OK:
        reader = decord.VideoReader(str(tmp_path / "c.mp4"), num_threads=1)
        assert len(reader) == made.frames >= decode.min_frames
    else:
        assert made.reason
        assert "\n" not in made.reason
