"""What an exact segment costs, against ffmpeg's own seek, on the same hour of video.

    python -m benchmarks.segment [--start 3000] [--container mp4]

ffmpeg's seek (`-ss` before the input) drops what comes before the segment, takes the first picture
after it for time 0, and is not exact in every container. Both scale and encode alike, and take
turns. The hour is a minute of moving test picture with noise, repeated; a keyframe every 250
pictures, closed groups.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import material
from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.configuration.schema import Decode
from pipeline.data.decode import transcode
from pipeline.data.decode.timeline import TimeRange
from pipeline.data.decode.transcode import Segment
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime import ffmpeg

MINUTES, LENGTH_S = 60, 10.0
OURS, BARE = "exact segment", "ffmpeg's seek"
TO_REACH = 1.5  # times the core seconds of ffmpeg's seek, in mp4 with closed groups


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    settings = material.settings().data.decode
    with tempfile.TemporaryDirectory(prefix="segment-", dir=options.scratch) as name:
        hour = an_hour(Path(name), options.container)
        target = Path(name) / "clip.mp4"
        segment = Segment(options.start, options.start + LENGTH_S)

        def ours() -> None:
            made = transcode.transcode(hour, target, segment, settings)
            if made.outcome is not Outcome.OK:
                raise UserError(made.reason)

        def bare() -> None:
            subprocess.run(seeking(hour, target, options.start, settings), check=True)

        ways: dict[str, Callable[[], None]] = {BARE: bare, OURS: ours}
        turns: dict[str, list[float]] = {way: [] for way in ways}
        for round_ in range(options.rounds + 1):
            for way, run in ways.items():
                seconds = core_seconds(run)
                if round_:  # the first warms the disk's cache
                    turns[way].append(seconds)
    ratios = [ours / bare for bare, ours in zip(*turns.values(), strict=True)]
    return {
        "container": options.container,
        "start": options.start,
        "cpu_seconds": turns,
        "ratio": statistics.median(ratios),
        "to_reach": TO_REACH,
        "machine": machine(),
    }


def an_hour(folder: Path, container: str) -> Path:
    """Draw a minute of video and repeat it."""
    minute, hour = folder / "minute.mp4", folder / f"hour.{container}"
    base = [ffmpeg.executable(), "-v", "error", "-y"]
    drawn = "testsrc2=s=640x360:r=25:d=60,noise=alls=8:allf=t"
    encoded = ["-c:v", "libx264", "-preset", "veryfast", "-g", "250", "-pix_fmt", "yuv420p"]
    subprocess.run([*base, "-f", "lavfi", "-i", drawn, *encoded, minute], check=True)
    repeated = ["-stream_loop", str(MINUTES - 1), "-i", minute, "-c", "copy", hour]
    subprocess.run([*base, *repeated], check=True)
    return hour


def seeking(source: Path, target: Path, start: float, settings: Decode) -> list[str]:
    """Return the command line that leaves the segment to ffmpeg's seek."""
    line = transcode.command(source, target, TimeRange(), settings)
    line[line.index("repeat+level+verbose")] = "error"
    place = line.index("-i")
    filters = line.index("-vf") + 1
    scale = line[filters][line[filters].index("scale=") :]
    begun = f"setpts=PTS-STARTPTS,fps=source_fps,select=lt(pts\\,floor({LENGTH_S}/TB+0.5))"
    line[filters] = f"{begun},{scale}"
    line[place:place] = ["-ss", str(start), "-t", str(LENGTH_S + 1)]
    return line


def core_seconds(run: Callable[[], None]) -> float:
    """Return the processor time of the children that a function starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (way, f"{statistics.median(seconds):.2f}", " ".join(f"{each:.2f}" for each in seconds))
        for way, seconds in report["cpu_seconds"].items()
    ]
    return "\n".join(
        [
            table(["", "core seconds", "of each turn"], rows),
            f"{LENGTH_S:g} s at {report['start']:g} s of an hour of {report['container']}: "
            f"{report['ratio']:.2f} times ffmpeg's seek (to reach in mp4: {report['to_reach']})",
            machine_lines(report["machine"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segment", description=described)
    parser.add_argument("--start", type=float, default=3000.0, help="seconds; default: minute 50")
    parser.add_argument("--container", default="mp4", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, help="where the videos go meanwhile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    return answered(options, measure, shown)


if __name__ == "__main__":
    sys.exit(main())
