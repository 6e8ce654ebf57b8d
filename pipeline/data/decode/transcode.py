"""One video or segment to one clip: constant rate, upright, square pixels, H.264, closed GOPs.

A single ffmpeg process does it all, and decoding is the proof that the video can be decoded:
what the header promises is only compared with what came out (`diagnosis`). Which pictures a clip
shows is said in `timeline`.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import Decode
from pipeline.data.decode import diagnosis, file_type, mp4, timeline
from pipeline.data.decode.ffmpeg_log import EndOfContents, FfmpegLog
from pipeline.data.decode.timeline import TimeRange
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg
from pipeline.runtime.files import disk_full

VERSION = 2  # raised whenever the same source and settings give other clips

# How far before a segment reading begins, in seconds: the next, where the picture on display at its
# beginning did not come out. After these, at the beginning of the file.
BACK_S = (0.0, 2.0, 20.0)


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

    Raises:
        UserError: the disk is full, or a quota is used up.
    """
    part = replace(
        part_of(segment, settings),
        from_first=file_type.delays_pictures(source),
        times=file_type.times(source),
    )
    runs = _Runs(source, target, part, settings)
    try:
        status, log = runs.decode()
        if diagnosis.in_doubt(status, log, part):
            log.others_end = runs.end_of_others()
    except ffmpeg.TimedOut:
        reason = f"not done after {settings.time_limit_s:g} s (decode.time_limit_s)"
        return Transcoded(Outcome.TIMED_OUT, reason)
    outcome, reason = diagnosis.diagnose(source, status, log, part, settings)
    if outcome is not Outcome.OK:
        return Transcoded(outcome, reason)
    width, height = mp4.picture_size(target)
    return Transcoded(outcome, reason, log.written, float(log.rate or 0), width, height)


def part_of(segment: Segment, settings: Decode) -> TimeRange:
    """Return what is wanted. All of a video begins with its first picture, whenever that comes."""
    start = segment.start or (None if segment.end is None else 0.0)
    return TimeRange(start, segment.end, settings.max_seconds)


class _Enough(Exception):  # noqa: N818 - it is news, not an error
    """What was heard so far shows that this run of ffmpeg is of no use."""


class _Runs:
    """ffmpeg on one source, as often as it takes, within one time limit."""

    def __init__(self, source: Path, target: Path, part: TimeRange, settings: Decode) -> None:
        self.source, self.target, self.part, self.settings = source, target, part, settings
        self._deadline = time.monotonic() + settings.time_limit_s

    def decode(self) -> tuple[int, FfmpegLog]:
        """Write the clip; return ffmpeg's exit status and what it said.

        Where reading began in the midst of the file, only what comes out tells whether that was
        early enough: the first whole picture has to be on display at the segment's beginning, or
        before. And what refers to pictures before the first one read may look damaged.
        """
        start, lead = self.part.start or 0.0, 0.0
        for back in BACK_S if start and file_type.has_exact_index(self.source) else ():
            if back >= start:
                break
            status, log = self._attempt(replace(self.part, lead=lead), start - back)
            if log.first is not None and log.lead != lead:  # known only now
                lead = log.lead
                status, log = self._attempt(replace(self.part, lead=lead), start - back)
            reached = timeline.reached(self.part, lead, log.first) and not log.damaged
            if reached or log.mapped is None or log.cut_short:
                return status, log
        part = self.part
        status, log = self._attempt(part, None)
        if log.goes_back:
            first = part.from_first or part.times == "decoding"  # decoding begins earlier
            part = replace(part, counted=True, from_first=first)
            status, log = self._attempt(part, None)
        if part.start is not None and log.begins_later:
            return self._attempt(replace(part, lead=-log.begins_later), None)
        return status, log

    def end_of_others(self) -> float:
        """Return when the last of the streams without pictures ends, in seconds."""
        reader = EndOfContents()
        chosen = ["-map", "0", "-map", "-0:v", "-map", "-0:t", "-ignore_unknown"]
        stream = _reading(self.source).output("-", c="copy", f="null")
        self._run(_compiled(stream.global_args(*chosen)), reader.read_line)
        return reader.seconds

    def _attempt(self, part: TimeRange, seek: float | None) -> tuple[int, FfmpegLog]:
        """Run ffmpeg; where something else ended it, once more."""
        line = command(self.source, self.target, part, self.settings, seek)

        def misses(log: FfmpegLog) -> bool:
            if seek is not None:
                return log.lead != part.lead or not timeline.reached(part, log.lead, log.first)
            return part.start is not None and part.lead is None and log.begins_later > 0

        for _ in range(2):
            log, status = FfmpegLog(), 0

            def on_line(text: str, log: FfmpegLog = log) -> None:
                log.read_line(text)
                if log.stands_still or log.goes_back or (log.first is not None and misses(log)):
                    raise _Enough

            with contextlib.suppress(_Enough):
                status = self._run(line, on_line)
            if log.disk_full and (error := disk_full(OSError(errno.ENOSPC, ""), self.target)):
                raise error
            if not diagnosis.ended_from_outside(status, log):
                break
        return status, log

    def _run(self, line: Sequence[str], on_line: Callable[[str], None]) -> int:
        return ffmpeg.run(
            line,
            on_line,
            time_limit_s=max(0.0, self._deadline - time.monotonic()),
            memory_limit_mib=self.settings.memory_limit_mib,
        )


def command(
    source: Path, target: Path, part: TimeRange, settings: Decode, seek: float | None = None
) -> list[str]:
    """Return the ffmpeg command line; `seek`: where to begin reading (s), None at the beginning."""
    tune = {"tune": settings.tune} if settings.tune else {}
    stream = _reading(source, seek).output(
        f"file:{target}",
        vf=_filters(part, settings, midst=seek is not None),
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
    # Times that count from the file's beginning are asked for where reading begins elsewhere only:
    # with them ffmpeg leaves the jumps of joined mpeg-ts files as they are.
    counted = [] if seek is None else ["-copyts", "-start_at_zero"]
    return _compiled(stream.global_args(*counted, "-filter_threads", "1"))


def _reading(source: Path, seek: float | None = None) -> Any:
    """Return ffmpeg-python's input."""
    import ffmpeg as builder  # ffmpeg-python

    place = {} if seek is None else {"noaccurate_seek": None, "ss": f"{seek:.6f}"}
    options = {"threads": 1, "reinit_filter": 0, **ffmpeg.CONFINED, **place}
    return builder.input(f"file:{source}", **options)


def _compiled(stream: Any) -> list[str]:
    """Return the command line of ffmpeg-python's output."""
    stream = stream.global_args("-hide_banner", "-nostdin", "-nostats")
    stream = stream.global_args("-loglevel", "repeat+level+verbose")
    line: list[str] = stream.compile(cmd=ffmpeg.executable(), overwrite_output=True)
    return line


def _filters(part: TimeRange, settings: Decode, *, midst: bool) -> str:
    """Return the filter chain. ffmpeg turns rotated frames upright in front of it.

    `sar` is the shape of a stored pixel.
    """
    side = settings.short_side
    chain = timeline.filters(part, settings.fps, midst=midst)
    wide = "gte(iw*sar\\,ih)"
    width = f"if({wide}\\,2*round(iw*sar*{side}/ih/2)\\,{side})"
    height = f"if({wide}\\,{side}\\,2*round(ih*{side}/(iw*sar)/2))"
    exact = "bicubic+accurate_rnd+full_chroma_int"
    chain += [f"scale=w={width}:h={height}:flags={exact}:out_range=tv", "setsar=1"]
    return ",".join([*chain, "format=yuv420p"])
