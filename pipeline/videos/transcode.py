"""One video or segment to one clip: constant rate, upright, square pixels, H.264, closed GOPs.

A single ffmpeg process does it all, and decoding is the proof that the video can be decoded:
what the header promises is only compared with what came out.

Which frames a clip holds: frame k shows the source at `start` + k / rate, where the first frame is
the first one at or after `start`, and the rate is `decode.fps` or the source's own. A segment has
round((end - start) x rate) frames (halves rounded up), or fewer where the video ends before it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration.schema import Decode
from pipeline.records import Outcome
from pipeline.videos import ffmpeg, mp4, probe
from pipeline.videos.probe import Facts

VERSION = 1  # raised whenever the same source and settings give other clips

# Containers that hold videos. Playlists, pictures and text files are demuxed by ffmpeg as well,
# and a playlist could make it open other files.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,asf,flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,ogg,rm,dv,mxf,"
    "nut,gif,yuv4mpegpipe,wtv,swf,vc1"
)
HIGHEST_RATE = 120  # frames a second; some headers of variable-rate files say 1,000 or 90,000
SEEK_SLACK_S = 0.001  # Matroska rounds times to milliseconds
READ_ON_S = 1.0  # of the source, beyond the segment
# How much of the promised time may be missing before a file counts as cut short, when the reader
# noticed nothing: seconds and share, whichever is longer. Sound is often longer than the pictures,
# and the promise is for both.
SHORTFALL_S, SHORTFALL, SHORTFALL_WITH_SOUND = 0.1, 0.02, 0.5


@dataclass(frozen=True)
class Segment:
    """The part of a video to take, in seconds; None is its beginning or its end."""

    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Transcoded:
    """How it went, and what was written where it went well."""

    outcome: Outcome
    reason: str = ""
    frames: int = 0  # counted
    fps: float = 0.0
    width: int = 0
    height: int = 0


def transcode(source: Path, target: Path, segment: Segment, settings: Decode) -> Transcoded:
    """Write the clip `target` (an mp4) from `source`; remove nothing, raise for no bad video.

    Where the outcome is not ok, `target` may hold a useless file or none.
    """
    facts = Facts()
    try:
        status = ffmpeg.run(
            command(source, target, segment, settings),
            facts.hear,
            time_limit_s=settings.time_limit_s,
            memory_limit_mib=settings.memory_limit_mib,
        )
    except ffmpeg.TimedOut:
        reason = f"not done after {settings.time_limit_s:g} s (decode.time_limit_s)"
        return Transcoded(Outcome.TIMED_OUT, reason)
    outcome, reason = _judge(source, status, facts, segment, settings)
    if outcome is not Outcome.OK:
        return Transcoded(outcome, reason)
    width, height = mp4.picture_size(target)
    return Transcoded(outcome, reason, facts.written, float(facts.rate or 0), width, height)


def command(source: Path, target: Path, segment: Segment, settings: Decode) -> list[str]:
    """Return the ffmpeg command line."""
    import ffmpeg as builder  # ffmpeg-python

    reading: dict[str, object] = {
        "threads": 1,
        "protocol_whitelist": "file",
        "format_whitelist": CONTAINERS,
    }
    start, wanted = segment.start or 0.0, seconds_wanted(segment, settings)
    if start:
        # Before the input, so that reading begins at the keyframe before it; exact all the same,
        # since the frames up to it are decoded and dropped.
        reading["ss"] = f"{max(0.0, start - SEEK_SLACK_S):.6f}"
    if wanted is not None:
        reading["t"] = f"{wanted + READ_ON_S:.6f}"
    tune = {"tune": settings.tune} if settings.tune else {}
    stream = builder.input(f"file:{source}", **reading).output(
        f"file:{target}",
        vf=_filters(wanted, settings),
        an=None,
        sn=None,
        dn=None,
        map_metadata=-1,
        map_chapters=-1,
        threads=1,
        vcodec="libx264",
        preset=settings.preset,
        **tune,
        crf=settings.crf,
        g=settings.gop,
        keyint_min=settings.gop,
        sc_threshold=0,
        bf=0,  # no frame is stored out of order, none has a negative time
        flags="+bitexact+cgop",
        fflags="+bitexact",
        movflags="+faststart",
        format="mp4",
    )
    options = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "repeat+level+verbose"]
    stream = stream.global_args(*options, "-filter_threads", "1")
    line: list[str] = builder.compile(stream, cmd=ffmpeg.executable(), overwrite_output=True)
    return line


def seconds_wanted(segment: Segment, settings: Decode) -> float | None:
    """Return the length of the clip in seconds; None: to the end of the video."""
    lengths = [settings.max_seconds] if settings.max_seconds else []
    if segment.end is not None:
        lengths.append(segment.end - (segment.start or 0.0))
    return min(lengths, default=None)


def _filters(wanted: float | None, settings: Decode) -> str:
    """Return the filter chain. ffmpeg turns rotated frames upright in front of it.

    After `fps`, the unit of time TB is one frame. `sar` is the shape of a stored pixel.
    """
    side = settings.short_side
    rate = f"min(source_fps\\,{HIGHEST_RATE})" if settings.fps is None else f"{settings.fps!r}"
    chain = ["setpts=PTS-STARTPTS", f"fps={rate}"]
    if wanted is not None:
        chain.append(f"select=lt(pts\\,floor({wanted!r}/TB+0.5))")
    wide = "gte(iw*sar\\,ih)"
    width = f"if({wide}\\,2*round(iw*sar*{side}/ih/2)\\,{side})"
    height = f"if({wide}\\,{side}\\,2*round(ih*{side}/(iw*sar)/2))"
    exact = "bicubic+accurate_rnd+full_chroma_int"
    chain += [f"scale=w={width}:h={height}:flags={exact}:out_range=tv", "setsar=1"]
    return ",".join([*chain, "format=yuv420p"])


def _judge(
    source: Path, status: int, facts: Facts, segment: Segment, settings: Decode
) -> tuple[Outcome, str]:
    """Say how it went, the most telling reason first."""
    if not facts.opened:
        return _unopened(source, facts, settings, status)
    stream = facts.streams.get(facts.mapped if facts.mapped is not None else -1, "")
    if facts.said("does not contain any stream") or "(attached pic)" in stream:
        others = ", ".join(kind for kind in facts.kinds if kind != "video") or "a cover picture"
        return Outcome.NO_VIDEO_STREAM, f"it holds no pictures, only {others}"
    if facts.said("no decoder found") or facts.said("Decoder not found"):
        return Outcome.FAILED, "this ffmpeg has no decoder for its video codec"
    if _out_of_memory(facts):
        return Outcome.FAILED, _memory_reason(settings)
    if facts.container == "avi" and probe.riff_cut_short(source):
        facts.cut_short = True
    if damage := _damage(facts):
        return Outcome.CORRUPT, damage
    if status < 0:
        return Outcome.CORRUPT, f"the decoder crashed ({signal.Signals(-status).name})"
    if begins_late := _begins_late(facts, segment):
        return Outcome.TOO_SHORT, begins_late
    if not facts.decoded:
        return Outcome.CORRUPT, "no frame can be decoded" + _last_error(facts, source)
    if status:
        return Outcome.FAILED, f"ffmpeg ended with status {status}" + _last_error(facts, source)
    if facts.written < settings.min_frames:
        return Outcome.TOO_SHORT, _too_short(facts, settings)
    return _compare_with_promise(facts, segment, settings)


def _unopened(source: Path, facts: Facts, settings: Decode, status: int) -> tuple[Outcome, str]:
    if kind := probe.not_a_video(source):
        return Outcome.NOT_A_VIDEO, kind
    if _out_of_memory(facts):
        return Outcome.FAILED, _memory_reason(settings)
    if facts.said("not on whitelist"):
        return Outcome.NOT_A_VIDEO, "not in a container format that holds videos"
    if facts.said("moov atom not found") and not facts.low_score:
        return Outcome.CORRUPT, "its index (moov) is missing: the file was probably cut short"
    if status < 0:
        return Outcome.CORRUPT, f"the decoder crashed ({signal.Signals(-status).name})"
    if facts.said("Invalid data found") or facts.low_score:
        return Outcome.NOT_A_VIDEO, "its contents are in no known video format"
    return Outcome.FAILED, "it cannot be opened" + _last_error(facts, source)


def _damage(facts: Facts) -> str:
    """Say what is damaged; empty where the decoder noticed nothing."""
    promise = f"its header promises {facts.seconds:g} s" if facts.seconds else ""
    if facts.seconds and (rate := facts.source_rate):
        promise += f" (about {round(facts.seconds * rate)} frames)"
    if facts.cut_short:
        return f"the file is cut short: {promise}, {facts.decoded} frames can be decoded".replace(
            ": , ", ": "
        )
    if facts.damaged:
        return f"damaged picture data: {facts.damaged} errors in {facts.decoded} decoded frames"
    return ""


def _begins_late(facts: Facts, segment: Segment) -> str:
    if not segment.start or facts.written or facts.seconds is None:
        return ""
    if segment.start < facts.seconds:
        return ""
    return f"the segment begins at {segment.start:g} s, the video ends at {facts.seconds:g} s"


def _too_short(facts: Facts, settings: Decode) -> str:
    # Of a single frame the rate is unknown, and none is written.
    frames = facts.decoded if facts.decoded < settings.min_frames else facts.written
    count = f"{frames} frame{'s' if frames != 1 else ''}"
    if settings.fps is not None:
        count += f" at {settings.fps:g} a second ({facts.decoded} decoded)"
    return f"{count}, {settings.min_frames} are needed (decode.min_frames)"


def _compare_with_promise(facts: Facts, segment: Segment, settings: Decode) -> tuple[Outcome, str]:
    """Compare the frames written with the header and the wanted segment."""
    if not facts.rate:
        return Outcome.FAILED, "the frame rate is unknown"
    got, start = float(facts.written / facts.rate), segment.start or 0.0
    wanted = seconds_wanted(segment, settings)
    if facts.seconds is not None:
        whole = facts.seconds - start
        promised = whole if wanted is None else min(whole, wanted)
        share = SHORTFALL if facts.kinds == ["video"] else SHORTFALL_WITH_SOUND
        if promised - got > max(SHORTFALL_S + 2 / float(facts.rate), share * promised):
            there = f"{facts.written} frames ({got:.2f} s) can be decoded"
            return Outcome.CORRUPT, f"its header promises {promised:.2f} s, {there}"
        if got > 2 * whole + 1 and facts.written > 2 * facts.decoded:
            spread = f"its {facts.decoded} frames are spread over {got:.0f} s by their time stamps"
            return Outcome.CORRUPT, f"its header promises {whole:.2f} s, {spread}"
    if wanted is not None and segment.end is not None and wanted - got > 1.5 / float(facts.rate):
        return Outcome.OK, f"the video ends {wanted - got:.2f} s before the segment does"
    return Outcome.OK, ""


def _out_of_memory(facts: Facts) -> bool:
    # x264 does not say why it fails; with settings that the schema allows, memory is what is left.
    said = ("Cannot allocate memory", "malloc of size", "pthread_create() failed")
    encoder = ("Generic error in an external library", "Error while opening encoder")
    return any(map(facts.said, (*said, *encoder)))


def _memory_reason(settings: Decode) -> str:
    limit = f"{settings.memory_limit_mib} MiB (decode.memory_limit_mib)"
    return f"pictures too large, or more memory needed than {limit}"


def _last_error(facts: Facts, source: Path) -> str:
    """Return `: message` with the first error of the log, without paths of this machine."""
    if not facts.errors:
        return ""
    return ": " + facts.errors[0].replace(str(source), source.name)[:160]
