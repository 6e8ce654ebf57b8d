"""What a video file is: duration, rate, size and codec, by decoding its first pictures."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration.schema import Decode
from pipeline.data.decode import diagnosis, mp4, transcode
from pipeline.data.decode.ffmpeg_log import FfmpegLog
from pipeline.data.decode.transcode import Segment
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg

TIME_LIMIT_S = 60
FEWEST_FRAMES = 2  # of a video, as the decode stage has it (`data.decode.min_frames`)
# A tenth of a second, small: it proves that the file has pictures and a decoder, and is quick.
HEAD = Decode(
    short_side=16,
    crf=18,
    gop=12,
    preset="ultrafast",
    min_frames=1,
    max_seconds=0.1,
    time_limit_s=TIME_LIMIT_S,
    memory_limit_mib=4096,
)
_CODEC = re.compile(r": Video: (\w+)")
_SIZE = re.compile(r", (\d+)x(\d+)")


@dataclass(frozen=True)
class Probe:
    """One file; the numbers are 0 where it cannot be read, seconds also where no header says it."""

    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0  # as its header promises
    rate: float = 0.0  # frames a second, as its header promises
    width: int = 0  # pixels as shown: upright
    height: int = 0
    codec: str = ""

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side."""
        return min(self.width, self.height)


def probe(path: Path) -> Probe:
    """Read a file's header and decode its first pictures; raise for no bad file.

    What is damaged further on is seen by the decode stage alone, which reads all of it.
    """
    if not path.is_file():
        return Probe(Outcome.MISSING, "no such file")
    part = transcode.part_of(Segment(), HEAD)
    log = FfmpegLog()
    with tempfile.TemporaryDirectory(prefix="survey-") as folder:
        target = Path(folder) / "head.mp4"
        try:
            status = ffmpeg.run(
                transcode.command(path, target, part, HEAD),
                log.read_line,
                time_limit_s=TIME_LIMIT_S,
                memory_limit_mib=HEAD.memory_limit_mib,
            )
        except ffmpeg.TimedOut:
            return Probe(Outcome.TIMED_OUT, f"not opened after {TIME_LIMIT_S} s")
        outcome, reason = diagnosis.diagnose(path, status, log, part, HEAD)
        if outcome is not Outcome.OK:
            return Probe(outcome, reason)
        return _described(log, mp4.picture_size(target))


def _described(log: FfmpegLog, shown: tuple[int, int]) -> Probe:
    """Return what the header says; `shown` is the size of the decoded pictures, upright."""
    stream = log.streams.get(log.mapped if log.mapped is not None else -1, "")
    codec, size = _CODEC.search(stream), _SIZE.search(stream)
    width, height = (int(size[1]), int(size[2])) if size else shown
    if (width > height) != (shown[0] > shown[1]):
        width, height = height, width
    seconds = log.seconds or 0.0
    rate = log.source_rate or float(log.rate or 0)
    if 0 < seconds * rate < FEWEST_FRAMES - 0.5:
        reason = f"{max(1, round(seconds * rate))} frames, {FEWEST_FRAMES} are needed"
        return Probe(Outcome.TOO_SHORT, reason)
    return Probe(Outcome.OK, "", seconds, rate, width, height, codec[1] if codec else "")
