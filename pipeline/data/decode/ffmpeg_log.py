"""What ffmpeg's log says of a video: what its header promises, what was decoded, what was written.

ffprobe is not needed: one ffmpeg process at log level `verbose` says it all while it decodes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction

from pipeline.data.decode.timeline import LEAD_S

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
_TOLD = re.compile(r"(?:\[Eval @ \w+\] )?\[(verbose|info|warning|error)\] (-?\d+\.\d+)$")
_BEGINS = re.compile(rf", start {_NUMBER}")
_RECEIVED = re.compile(r"Exiting normally, received signal (\d+)")
_CORRECTED = re.compile(r"Correcting start time (?:of Input #0 )?by (-?\d+)")
_DISK_FULL = re.compile(
    r"\[(?:error|fatal)\] .*(?:No space left on device|Disk quota exceeded)\.?$"
)
_TIME = re.compile(rf"\[info\] .*\btime=(\d+):(\d+):{_NUMBER}")
_LEVEL = re.compile(r"\[(error|fatal|panic)\] (.*)")


@dataclass
class FfmpegLog:
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
    goes_back: bool = False  # times are not those of display (`TimeRange.times`)
    passed_over: float = 0.0  # seconds by which ffmpeg let time begin later, as it reads no sound
    received: int = 0  # the signal at which it ended in good order
    disk_full: bool = False
    others_end: float | None = None  # of the streams without pictures, in seconds, once looked at
    _begins: float = 0.0
    _output: bool = False

    def read_line(self, line: str) -> None:
        """Read one line of the log."""
        if match := _TOLD.match(line):
            self._read_time(match[1], float(match[2]))
            return
        if line.startswith("  ") or line.startswith("[info]   "):
            self._read_header(line.removeprefix("[info] "))
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
        elif match := _RECEIVED.search(line):
            self.received = int(match[1])
        elif match := _CORRECTED.search(line):
            self.passed_over = int(match[1]) / 1e6
        if match := _LEVEL.search(line):
            self._keep(match[2])
            self.disk_full |= bool(_DISK_FULL.search(line))

    def _read_header(self, line: str) -> None:
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

    def _read_time(self, level: str, seconds: float) -> None:
        """Read what the filters of `timeline` print."""
        if level == "error":
            self.goes_back = True
        elif level == "warning":
            self.stands_still = True
        elif level == "verbose":
            self.first = seconds + self.passed_over
        else:
            self.last = seconds + self.passed_over

    def _keep(self, message: str) -> None:
        self.errors.append(re.sub(r"0x[0-9a-f]+", "", message).strip())
        if len(self.errors) > 40:
            del self.errors[20]

    def reports(self, text: str) -> bool:
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
    """When what one ffmpeg process copied ended, in seconds; give `read_line` to `ffmpeg.run`."""

    seconds: float = 0.0

    def read_line(self, line: str) -> None:
        """Read one line of the log."""
        if match := _TIME.search(line):
            self.seconds = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
