"""What is to be said of a video after ffmpeg has gone through it: its outcome, and why."""

from __future__ import annotations

import signal
from pathlib import Path

from pipeline.configuration.schema import Decode
from pipeline.data.decode import file_type
from pipeline.data.decode.ffmpeg_log import FfmpegLog
from pipeline.data.decode.timeline import LEAD_S, TimeRange
from pipeline.data.records import Outcome

# How much of the promised time may be missing before a file counts as cut short, when the reader
# noticed nothing: seconds and share, whichever is longer.
SHORTFALL_S, SHORTFALL = 0.1, 0.02
# What a program does to itself. Every other signal comes from outside: the system where memory
# runs out, a batch system at a limit of its own.
CRASHES = {"SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"}


def ended_from_outside(status: int, log: FfmpegLog) -> str:
    """Return the name of the signal by which something else ended ffmpeg; empty where none did."""
    number = -status if status < 0 else log.received
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return "" if not number or name in CRASHES else name


def diagnose(
    source: Path, status: int, log: FfmpegLog, part: TimeRange, settings: Decode
) -> tuple[Outcome, str]:
    """Say how it went, the most telling reason first."""
    if name := ended_from_outside(status, log):
        return Outcome.FAILED, f"ffmpeg was ended twice by a signal from outside ({name})"
    if not log.opened:
        return _unopened(source, log, settings, status)
    stream = log.streams.get(log.mapped if log.mapped is not None else -1, "")
    if log.reports("does not contain any stream") or "(attached pic)" in stream:
        others = ", ".join(kind for kind in log.kinds if kind != "video") or "a cover picture"
        return Outcome.NO_VIDEO_STREAM, f"it holds no pictures, only {others}"
    if log.reports("no decoder found") or log.reports("Decoder not found"):
        return Outcome.FAILED, "this ffmpeg has no decoder for its video codec"
    if _out_of_memory(log):
        return Outcome.FAILED, _memory_reason(settings)
    if log.container == "avi" and file_type.riff_cut_short(source):
        log.cut_short = True
    if damage := _damage(log):
        return Outcome.CORRUPT, damage
    if status < 0:
        return Outcome.CORRUPT, f"the decoder crashed ({signal.Signals(-status).name})"
    if log.stands_still:
        return Outcome.CORRUPT, "by their time stamps, its pictures stand still for hours"
    if log.goes_back:
        reason = "the times of its pictures go back or are those of decoding, at no constant rate"
        return Outcome.CORRUPT, f"{reason}: when each is shown is unknown"
    if beyond := _beyond(log, part):
        return Outcome.TOO_SHORT, beyond
    if not log.decoded:
        return Outcome.CORRUPT, "no frame can be decoded" + _last_error(log, source)
    if status:
        return Outcome.FAILED, f"ffmpeg ended with status {status}" + _last_error(log, source)
    if log.written < settings.min_frames:
        return Outcome.TOO_SHORT, _too_short(log, settings)
    return _compare_with_promise(log, part)


def _unopened(source: Path, log: FfmpegLog, settings: Decode, status: int) -> tuple[Outcome, str]:
    if kind := file_type.not_a_video(source):
        return Outcome.NOT_A_VIDEO, kind
    if _out_of_memory(log):
        return Outcome.FAILED, _memory_reason(settings)
    if log.reports("not on whitelist"):
        return Outcome.NOT_A_VIDEO, "not in a container format that holds videos"
    if log.reports("moov atom not found") and not log.low_score:
        return Outcome.CORRUPT, "its index (moov) is missing: the file was probably cut short"
    if status < 0:
        return Outcome.CORRUPT, f"the decoder crashed ({signal.Signals(-status).name})"
    if log.reports("Invalid data found") or log.low_score:
        return Outcome.NOT_A_VIDEO, "its contents are in no known video format"
    return Outcome.FAILED, "it cannot be opened" + _last_error(log, source)


def _damage(log: FfmpegLog) -> str:
    """Say what is damaged; empty where the decoder noticed nothing."""
    promise = f"its header promises {log.seconds:g} s" if log.seconds else ""
    if log.seconds and (rate := log.source_rate):
        promise += f" (about {round(log.seconds * rate)} frames)"
    if log.cut_short:
        return f"the file is cut short: {promise}, {log.decoded} frames can be decoded".replace(
            ": , ", ": "
        )
    if log.damaged:
        return f"damaged picture data: {log.damaged} errors in {log.decoded} decoded frames"
    return ""


def _beyond(log: FfmpegLog, part: TimeRange) -> str:
    """Say that the segment lies after the last picture, or before the first one."""
    if part.start is None or log.written or log.first is None or log.last is None:
        return ""
    if part.end is not None and log.first >= part.end:
        return f"the segment ends at {part.end:g} s, its pictures begin at {log.first:g} s"
    if log.last > part.start + LEAD_S:
        return ""
    return f"the segment begins at {part.start:g} s, its pictures end at {log.last:g} s"


def _too_short(log: FfmpegLog, settings: Decode) -> str:
    # Of a single frame the rate is unknown, and none is written.
    frames = log.decoded if log.decoded < settings.min_frames else log.written
    count = f"{frames} frame{'s' if frames != 1 else ''}"
    if settings.fps is not None:
        count += f" at {settings.fps:g} a second ({log.decoded} decoded)"
    return f"{count}, {settings.min_frames} are needed (decode.min_frames)"


def in_doubt(status: int, log: FfmpegLog, part: TimeRange) -> bool:
    """Whether only the other streams can tell if the file is cut short (`FfmpegLog.others_end`)."""
    well = not status and log.rate and not log.damaged and not log.cut_short
    return bool(well) and log.kinds != ["video"] and _shortfall(log, part) > 0


def _shortfall(log: FfmpegLog, part: TimeRange) -> float:
    """Return how many seconds of pictures the header promises that did not come; 0 for a few."""
    if log.seconds is None or not log.rate:
        return 0.0
    promised = log.seconds - (part.start or 0.0)
    if (length := part.seconds) is not None:
        promised = min(promised, length)
    missing = promised - float(log.written / log.rate)
    return missing if missing > _tolerance(log, promised) else 0.0


def _tolerance(log: FfmpegLog, promised: float) -> float:
    return max(SHORTFALL_S + 2 / float(log.rate or 1), SHORTFALL * promised)


def _compare_with_promise(log: FfmpegLog, part: TimeRange) -> tuple[Outcome, str]:
    """Compare the frames written with the header and the wanted segment."""
    if not log.rate:
        return Outcome.FAILED, "the frame rate is unknown"
    got, seconds = float(log.written / log.rate), log.seconds
    if missing := _shortfall(log, part):
        others = log.others_end
        if others is None or (seconds or 0.0) - others > _tolerance(log, seconds or 0.0):
            there = f"{log.written} frames ({got:.2f} s) can be decoded"
            return Outcome.CORRUPT, f"its header promises {got + missing:.2f} s, {there}"
    whole = (seconds or 0.0) - (part.start or 0.0)
    counts = log.container == "ivf"  # its header counts pictures, whatever their times
    spreads = got > 2 * whole + 1 and log.written > 2 * log.decoded
    if seconds is not None and spreads and not counts:
        spread = f"its {log.decoded} frames are spread over {got:.0f} s by their time stamps"
        return Outcome.CORRUPT, f"its header promises {whole:.2f} s, {spread}"
    return Outcome.OK, _remark(log, part, got)


def _remark(log: FfmpegLog, part: TimeRange, got: float) -> str:
    """Say where a good clip is shorter than what was asked for."""
    start, frame = part.start or 0.0, 1 / float(log.rate or 1)
    begins = max(start, log.first or 0.0)
    late = 0.0 if part.from_first or begins - start <= LEAD_S else begins - start
    remarks = [f"the pictures begin at {begins:.2f} s"] if late else []
    length = part.seconds
    if length is not None and part.end is not None and length - got - late > 1.5 * frame:
        remarks.append(f"the video ends {length - got - late:.2f} s before the segment does")
    elif part.end is None and _shortfall(log, part) > late:
        remarks.append(f"the pictures end at {begins + got:.2f} s, the file at {log.seconds:g} s")
    return ", ".join(remarks)


def _out_of_memory(log: FfmpegLog) -> bool:
    # x264 does not say why it fails; with settings that the schema allows, memory is what is left.
    memory = ("Cannot allocate memory", "malloc of size", "pthread_create() failed")
    encoder = ("Generic error in an external library", "Error while opening encoder")
    return any(map(log.reports, (*memory, *encoder)))


def _memory_reason(settings: Decode) -> str:
    limit = f"{settings.memory_limit_mib} MiB (decode.memory_limit_mib)"
    return f"pictures too large, or more memory needed than {limit}"


def _last_error(log: FfmpegLog, source: Path) -> str:
    """Return `: message` with the first error of the log, without paths of this machine."""
    if not log.errors:
        return ""
    return ": " + log.errors[0].replace(str(source), source.name)[:160]
