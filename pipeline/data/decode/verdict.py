"""What is to be said of a video after ffmpeg has gone through it: its outcome, and why."""

from __future__ import annotations

import signal
from pathlib import Path

from pipeline.configuration.schema import Decode
from pipeline.data.decode import probe
from pipeline.data.decode.probe import Facts
from pipeline.data.decode.timeline import LEAD_S, Part
from pipeline.data.records import Outcome

# How much of the promised time may be missing before a file counts as cut short, when the reader
# noticed nothing: seconds and share, whichever is longer.
SHORTFALL_S, SHORTFALL = 0.1, 0.02
# What a program does to itself. Every other signal comes from outside: the system where memory
# runs out, a batch system at a limit of its own.
CRASHES = {"SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"}


def ended_from_outside(status: int, facts: Facts) -> str:
    """Return the name of the signal by which something else ended ffmpeg; empty where none did."""
    number = -status if status < 0 else facts.received
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return "" if not number or name in CRASHES else name


def judge(
    source: Path, status: int, facts: Facts, part: Part, settings: Decode
) -> tuple[Outcome, str]:
    """Say how it went, the most telling reason first."""
    if name := ended_from_outside(status, facts):
        return Outcome.FAILED, f"ffmpeg was ended twice by a signal from outside ({name})"
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
    if facts.stands_still:
        return Outcome.CORRUPT, "by their time stamps, its pictures stand still for hours"
    if beyond := _beyond(facts, part):
        return Outcome.TOO_SHORT, beyond
    if not facts.decoded:
        return Outcome.CORRUPT, "no frame can be decoded" + _last_error(facts, source)
    if status:
        return Outcome.FAILED, f"ffmpeg ended with status {status}" + _last_error(facts, source)
    if facts.written < settings.min_frames:
        return Outcome.TOO_SHORT, _too_short(facts, settings)
    return _compare_with_promise(facts, part)


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


def _beyond(facts: Facts, part: Part) -> str:
    """Say that the segment lies after the last picture, or before the first one."""
    if part.start is None or facts.written or facts.first is None or facts.last is None:
        return ""
    if part.end is not None and facts.first >= part.end:
        return f"the segment ends at {part.end:g} s, its pictures begin at {facts.first:g} s"
    if facts.last > part.start + LEAD_S:
        return ""
    return f"the segment begins at {part.start:g} s, its pictures end at {facts.last:g} s"


def _too_short(facts: Facts, settings: Decode) -> str:
    # Of a single frame the rate is unknown, and none is written.
    frames = facts.decoded if facts.decoded < settings.min_frames else facts.written
    count = f"{frames} frame{'s' if frames != 1 else ''}"
    if settings.fps is not None:
        count += f" at {settings.fps:g} a second ({facts.decoded} decoded)"
    return f"{count}, {settings.min_frames} are needed (decode.min_frames)"


def in_doubt(status: int, facts: Facts, part: Part) -> bool:
    """Whether only the other streams can tell if the file is cut short (`Facts.others_end`)."""
    well = not status and facts.rate and not facts.damaged and not facts.cut_short
    return bool(well) and facts.kinds != ["video"] and _shortfall(facts, part) > 0


def _shortfall(facts: Facts, part: Part) -> float:
    """Return how many seconds of pictures the header promises that did not come; 0 for a few."""
    if facts.seconds is None or not facts.rate:
        return 0.0
    promised = facts.seconds - (part.start or 0.0)
    if (wanted := part.seconds) is not None:
        promised = min(promised, wanted)
    missing = promised - float(facts.written / facts.rate)
    return missing if missing > _tolerance(facts, promised) else 0.0


def _tolerance(facts: Facts, promised: float) -> float:
    return max(SHORTFALL_S + 2 / float(facts.rate or 1), SHORTFALL * promised)


def _compare_with_promise(facts: Facts, part: Part) -> tuple[Outcome, str]:
    """Compare the frames written with the header and the wanted segment."""
    if not facts.rate:
        return Outcome.FAILED, "the frame rate is unknown"
    got, seconds = float(facts.written / facts.rate), facts.seconds
    if missing := _shortfall(facts, part):
        others = facts.others_end
        if others is None or (seconds or 0.0) - others > _tolerance(facts, seconds or 0.0):
            there = f"{facts.written} frames ({got:.2f} s) can be decoded"
            return Outcome.CORRUPT, f"its header promises {got + missing:.2f} s, {there}"
    whole = (seconds or 0.0) - (part.start or 0.0)
    if seconds is not None and got > 2 * whole + 1 and facts.written > 2 * facts.decoded:
        spread = f"its {facts.decoded} frames are spread over {got:.0f} s by their time stamps"
        return Outcome.CORRUPT, f"its header promises {whole:.2f} s, {spread}"
    return Outcome.OK, _remark(facts, part, got)


def _remark(facts: Facts, part: Part, got: float) -> str:
    """Say where a good clip is shorter than what was asked for."""
    start, frame = part.start or 0.0, 1 / float(facts.rate or 1)
    begins = max(start, facts.first or 0.0)
    late = 0.0 if part.from_first or begins - start <= LEAD_S else begins - start
    remarks = [f"the pictures begin at {begins:.2f} s"] if late else []
    wanted = part.seconds
    if wanted is not None and part.end is not None and wanted - got - late > 1.5 * frame:
        remarks.append(f"the video ends {wanted - got - late:.2f} s before the segment does")
    elif part.end is None and _shortfall(facts, part) > late:
        remarks.append(f"the pictures end at {begins + got:.2f} s, the file at {facts.seconds:g} s")
    return ", ".join(remarks)


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
