"""What a file is: from its first bytes, and from what ffmpeg says while it decodes it.

ffprobe is not needed. One ffmpeg process at log level `verbose` says what the header promises,
what was really decoded, and what was written; `Facts` listens to it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from pipeline.data.decode.timeline import LEAD_S

# Files that are often found in the place of a video, by how they begin.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive",
    b"Rar!": "a rar archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
}
_PAGE = re.compile(rb"\s*<(!--|(!doctype|html|head|body|\?xml)\b)", re.IGNORECASE)
_PRINTABLE = bytes({*range(32, 256), *b"\t\n\r\f"})


def not_a_video(path: Path) -> str:
    """Say what a file is that its first bytes show not to be a video; empty for all others."""
    with path.open("rb") as handle:
        start = handle.read(1024)
    if not start:
        return "an empty file"
    for signature, name in _SIGNATURES.items():
        if start.startswith(signature):
            return f"{name}, not a video"
    if is_page(start):
        return "a web page, not a video"
    if is_text(start) and not start.startswith(b"YUV4MPEG2"):
        return "a text file, not a video"
    return ""


def is_page(start: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    return _PAGE.match(start.removeprefix(b"\xef\xbb\xbf")) is not None


def riff_cut_short(path: Path) -> bool:
    """Whether an AVI ends before its first RIFF list does.

    ffmpeg says nothing of it: it takes the share of the file that is there for the whole.
    """
    with path.open("rb") as handle:
        start = handle.read(8)
    size = int.from_bytes(start[4:8], "little")
    unknown = size in (0, 0xFFFFFFFF)  # written as a stream
    return start[:4] == b"RIFF" and not unknown and size + 8 > path.stat().st_size


def has_exact_index(path: Path) -> bool:
    """Whether a file can be read from its midst and its pictures' times are right all the same.

    So it is with MP4 and its like and with Matroska and WebM, which say the time of each picture
    and which are keyframes.
    """
    with path.open("rb") as handle:
        start = handle.read(8)
    boxes = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return start[4:] in boxes or start.startswith(b"\x1aE\xdf\xa3")


def delays_pictures(path: Path) -> bool:
    """Whether a file is an AVI, where pictures with B-frames come later than their time by as many
    as the decoder holds back; its sound does not."""
    with path.open("rb") as handle:
        return handle.read(4) == b"RIFF"


def is_text(start: bytes) -> bool:
    """Whether a file that begins so can be a text, as far as that shows."""
    start = start.removeprefix(b"\xef\xbb\xbf")
    if start.translate(None, _PRINTABLE):
        return False
    try:
        start[: max(1, len(start) - 3)].decode()  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return True


_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"^  Duration: (\d+):(\d+):{_NUMBER}(?:, start: {_NUMBER})?")
_STREAM = re.compile(r"^  Stream #0:(\d+).*?: (Video|Audio|Subtitle|Data|Attachment): ")
_MAPPED = re.compile(r"^  Stream #0:(\d+) -> #0:0")
_FPS = re.compile(rf", {_NUMBER}(k?) fps")
_RATE = re.compile(r"\[Parsed_fps_\d+ @ \w+\] (?:\[\w+\] )?fps=(\d+)/(\d+)")
_READ = re.compile(
    r"Input stream #0:\d+ \(video\): (\d+) packets read .*?; (\d+) frames decoded"
    r"(?:; (\d+) decode errors)?"
)
_WRITTEN = re.compile(r"Output stream #0:0 \(video\): (\d+) frames encoded")
# Up to ffmpeg 6 `FILE: corrupt decoded frame in stream 0`, since then without file and stream.
_DAMAGED = re.compile(
    r"(?:\[[^\]]+ @ \w+\] )*\[(?:warning|error)\] "
    r"(?:.*: )?corrupt (?:decoded frame|input packet)(?: in stream \d+)?$"
)
# A complaint of the reader, the parser or the decoder, by the name in front of it. What filters,
# encoder and writer complain of (a full disk) is no fault of the video.
_FAULT = re.compile(
    r"\[(?!libx264 |mp4 |out#|vost#|Parsed_|AVFilterGraph|swscaler|fc#|vf#)[^\]]+ @ \w+\] "
    r"(?:\[[^\]]+ @ \w+\] )*\[(?:error|fatal|panic)\] "
    r"|\[error\] Error while decoding stream "
)
# While the file is opened, its sound is looked at, too: then only what its reader says counts.
_READER_FAULT = re.compile(
    r"\[(?:in#0|mov,|matroska|flv|avi|asf|mpegts|mpeg|NULL)[^\]]* @ \w+\] "
    r"\[(?:error|fatal|panic)\] "
)
# Of frames that refer to others before the first one read: so begins what was cut between two
# keyframes, and every segment of a video with open groups of pictures. No picture is lost by it.
_REFERENCE = re.compile(
    r"mmco: |co located POCs unavailable|Could not find ref with POC|"
    r"[Rr]eference (?:picture|frames?)\b|[Ff]irst frame is no keyframe"
)
_CUT_SHORT = re.compile(r"(offset 0x[0-9a-f]+: partial file|\] File ended prematurely)")
_TOLD = re.compile(r"(?:\[Eval @ \w+\] )?\[(verbose|info|warning)\] (-?\d+\.\d+)$")
_BEGINS = re.compile(rf", start {_NUMBER}")
_RECEIVED = re.compile(r"Exiting normally, received signal (\d+)")
_CORRECTED = re.compile(r"Correcting start time (?:of Input #0 )?by (-?\d+)")
_DISK_FULL = re.compile(
    r"\[(?:error|fatal)\] .*(?:No space left on device|Disk quota exceeded)\.?$"
)
_TIME = re.compile(rf"\[info\] .*\btime=(\d+):(\d+):{_NUMBER}")
_LEVEL = re.compile(r"\[(error|fatal|panic)\] (.*)")


@dataclass
class Facts:
    """What one ffmpeg process said of its input and its output; give it to `ffmpeg.run`."""

    opened: bool = False  # a container was recognised and its header read
    container: str = ""  # ffmpeg's names of its format
    seconds: float | None = None  # that the header promises
    streams: dict[int, str] = field(default_factory=dict)  # number -> its line in the log
    mapped: int | None = None  # the stream that was decoded
    decoded: int = 0  # frames
    packets: int = 0  # read of the decoded stream
    damaged: int = 0  # complaints of damage, by reader and decoder, once the file was opened
    cut_short: bool = False  # the file ends before its contents do
    written: int = 0  # frames, counted by the encoder
    rate: Fraction | None = None  # frames a second, of the output
    low_score: bool = False  # the container was guessed from the file's name
    estimated: bool = False  # the header promises no duration; ffmpeg guessed one
    errors: list[str] = field(default_factory=list)  # the first and the last few messages
    first: float | None = None  # time of the first picture, in seconds from the file's beginning
    last: float | None = None  # of the last one up to the segment's beginning; or when it ends
    stands_still: bool = False  # far more frames than pictures
    passed_over: float = 0.0  # seconds by which ffmpeg let time begin later, as it reads no sound
    received: int = 0  # the signal at which it ended in good order
    disk_full: bool = False
    others_end: float | None = None  # of the streams without pictures, in seconds, once looked at
    _begins: float = 0.0
    _output: bool = False

    def hear(self, line: str) -> None:
        """Take in one line of the log."""
        if line.startswith("  ") or line.startswith("[info]   "):
            self._hear_header(line.removeprefix("[info] "))
        elif _CUT_SHORT.search(line):
            self.cut_short = True
        elif _DAMAGED.match(line):
            self.damaged += 1
        elif (_FAULT if self.opened else _READER_FAULT).match(line):
            self.damaged += not _REFERENCE.search(line)
        elif match := _READ.search(line):
            self.packets, self.decoded = int(match[1]), int(match[2])
            self.damaged += int(match[3] or 0)
        elif match := _WRITTEN.search(line):
            self.written = int(match[1])
        elif match := _RATE.search(line):
            self.rate = Fraction(int(match[1]), int(match[2])) if int(match[2]) else None
        elif "detected only with low score" in line:
            self.low_score = True
        elif "Estimating duration from bitrate" in line:
            self.estimated = True
        elif line.startswith("[info] Input #0, "):
            self.opened = True
            self.container = line.removeprefix("[info] Input #0, ").split(", from ")[0]
        elif line.startswith("[info] Output #0"):
            self._output = True
        elif match := _TOLD.match(line):
            self._hear_time(match[1], float(match[2]))
        elif match := _RECEIVED.search(line):
            self.received = int(match[1])
        elif match := _CORRECTED.search(line):
            self.passed_over = int(match[1]) / 1e6
        if match := _LEVEL.search(line):
            self._keep(match[2])
            self.disk_full |= bool(_DISK_FULL.search(line))

    def _hear_header(self, line: str) -> None:
        if match := _MAPPED.match(line):
            self.mapped = int(match[1])
        elif match := _STREAM.match(line):
            if not self._output:
                self.streams[int(match[1])] = line
        elif not self._output and not self.estimated and (match := _DURATION.match(line)):
            self.seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            start = self._begins = float(match[4] or 0)
            # Older versions of ffmpeg count an mp4's duration from 0, not from its first picture.
            if self.container.startswith("mov") and 0 < start < self.seconds:
                self.seconds -= start

    def _hear_time(self, level: str, seconds: float) -> None:
        """Take in what the filters of `timeline` print."""
        if level == "warning":
            self.stands_still = True
        elif level == "verbose":
            self.first = seconds + self.passed_over
        else:
            self.last = seconds + self.passed_over

    def _keep(self, message: str) -> None:
        self.errors.append(re.sub(r"0x[0-9a-f]+", "", message).strip())
        if len(self.errors) > 40:
            del self.errors[20]

    def said(self, text: str) -> bool:
        """Whether an error message holds this text."""
        return any(text in message for message in self.errors)

    @property
    def source_rate(self) -> float | None:
        """Frames a second that the header promises, of the decoded stream."""
        match = _FPS.search(self.streams.get(self.mapped if self.mapped is not None else -1, ""))
        return float(match[1]) * (1000 if match[2] else 1) if match else None

    @property
    def begins_later(self) -> float:
        """Seconds by which time began later than the sound, but for the sound's run-up, which is
        less than a frame."""
        if self.passed_over <= LEAD_S or not (rate := self.source_rate):
            return 0.0
        return math.floor(self.passed_over * rate + 0.01) / rate

    @property
    def lead(self) -> float:
        """How much earlier than the pictures the sound begins, where that is its run-up."""
        match = _BEGINS.search(self.streams.get(self.mapped if self.mapped is not None else -1, ""))
        lead = round(float(match[1]) - self._begins, 6) if match else 0.0
        return lead if 0 < lead <= LEAD_S else 0.0

    @property
    def kinds(self) -> list[str]:
        """The kinds of streams that the file holds, such as `audio`."""
        matches = (_STREAM.match(line) for line in self.streams.values())
        return sorted({match[2].lower() for match in matches if match})


@dataclass
class EndOfContents:
    """When what one ffmpeg process copied ended, in seconds; give `hear` to `ffmpeg.run`."""

    seconds: float = 0.0

    def hear(self, line: str) -> None:
        """Take in one line of the log."""
        if match := _TIME.search(line):
            self.seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
