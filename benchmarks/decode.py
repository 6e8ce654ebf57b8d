"""The decode stage against the bare ffmpeg command, one process a core, on the same files.

    python -m benchmarks.decode --videos ../shared/clips/good
    python -m benchmarks.decode --copies 2 --json

Both do the same transcoding: the bare command is the one that the stage runs, started by a shell's
`xargs -P`, without a log, a record or a hash. The stage runs as Snakemake runs it: a process per
chunk (`python -m pipeline decode --chunk K`), as many at once as there are cores. They take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import material
from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.decode import transcode
from pipeline.data.decode.timeline import TimeRange
from pipeline.data.decode.transcode import Segment
from pipeline.data.records import ChunkManifest, Outcome
from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
TO_REACH = 0.85  # of the bare command's throughput
BARE, STAGE = "bare ffmpeg", "decode stage"


class Seconds(NamedTuple):
    """What one turn took."""

    wall: float  # by the clock
    cpu: float  # of all processes together


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory(prefix="decode-", dir=options.scratch) as name:
        work = _Work(Path(name), options, cores or 1)
        ways = {BARE: work.bare, STAGE: work.stage}
        turns: dict[str, list[Seconds]] = {name: [] for name in ways}
        for round_ in range(options.rounds + 1):
            for way, run in ways.items():
                seconds = work.timed(run)
                if round_:  # the first warms the disk's cache
                    turns[way].append(seconds)
        return {
            "clips": work.clips,
            "cores": work.cores,
            "chunks": work.params.data.chunks,
            "seconds": {way: [each.wall for each in found] for way, found in turns.items()},
            "cpu_seconds": {way: [each.cpu for each in found] for way, found in turns.items()},
            "share": _share([(b.wall, s.wall) for b, s in zip(*turns.values(), strict=True)]),
            "cpu_share": _share([(b.cpu, s.cpu) for b, s in zip(*turns.values(), strict=True)]),
            "to_reach": TO_REACH,
            "machine": machine(),
        }


def _share(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the stage's throughput as a share of the bare command's: the middle of all rounds."""
    return statistics.median(bare / stage for bare, stage in pairs)


class _Work:
    """A project folder with downloaded chunks, and the two ways to decode them."""

    def __init__(self, folder: Path, options: argparse.Namespace, cores: int) -> None:
        self.folder, self.cores = folder, cores
        files = _that_decode(material.videos(options.videos, folder / "videos"), folder)
        lines = [
            f"{path.stem}-{copy},{path.resolve()}"
            for copy in range(options.copies)
            for path in files
        ]
        self.clips = len(lines)
        (folder / "list.csv").write_text("\n".join(["id,path", *lines]) + "\n", encoding="utf-8")
        chunks = options.chunks or cores
        text = composition.compose(
            ["experiment=tiny", "data=k400", "data.manifest=list.csv", f"data.chunks={chunks}"]
        )
        (folder / "params.yaml").write_text(text, encoding="utf-8")
        self.params: Params = composition.load(folder / "params.yaml")
        self.layout = DataLayout(self.params.data.name)
        self._pipeline("manifest")
        for chunk in range(chunks):
            self._pipeline("download", "--chunk", str(chunk))

    def timed(self, run: Callable[[], None]) -> Seconds:
        """Return how long one way takes, from nothing to all clips."""
        for chunk in range(self.params.data.chunks):
            subprocess.run(["rm", "-rf", self.folder / self.layout.clips(chunk)], check=True)
        began, before = time.perf_counter(), _cpu_of_children()
        run()
        seconds = Seconds(time.perf_counter() - began, _cpu_of_children() - before)
        made = list((self.folder / self.layout.clips(0).parent).rglob("*.mp4"))
        if len(made) != self.clips:
            raise UserError(f"{len(made)} of {self.clips} clips were made")
        return seconds

    def bare(self) -> None:
        """Run the stage's own ffmpeg commands, as many at once as there are cores."""
        lines = []
        for chunk in range(self.params.data.chunks):
            clips = self.folder / self.layout.clips(chunk)
            clips.mkdir(parents=True)
            listed = ChunkManifest.read(self.folder / self.layout.downloaded(chunk)).clips
            for clip in listed:
                command = transcode.command(
                    Path(clip.file), clips / f"{clip.id}.mp4", TimeRange(), self.params.data.decode
                )
                quiet = ["error" if part.startswith("repeat") else part for part in command]
                lines.append(shlex.join(quiet))
        self._at_once(["sh", "-c", "{}"], [shlex.quote(line) for line in lines])

    def stage(self) -> None:
        """Run the decode stage, as many chunks at once as there are cores."""
        command = [sys.executable, "-m", "pipeline", "decode", "--chunk", "{}"]
        self._at_once(command, list(map(str, range(self.params.data.chunks))))

    def _at_once(self, command: list[str], lines: list[str]) -> None:
        self._run(["xargs", "-P", str(self.cores), "-I{}", *command], "\n".join(lines))

    def _pipeline(self, *arguments: str) -> None:
        self._run([sys.executable, "-m", "pipeline", *arguments], "")

    def _run(self, command: list[str], given: str) -> None:
        done = subprocess.run(
            command,
            input=given,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"a command failed: {done.stderr[-2000:]}")


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _that_decode(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files that are good: a bad one costs both nothing like a clip."""
    settings = material.settings().data.decode.model_copy(update={"preset": "ultrafast"})
    target = folder / "tried.mp4"
    good = []
    for path in files:
        if transcode.transcode(path, target, Segment(), settings).outcome is Outcome.OK:
            good.append(path)
    target.unlink(missing_ok=True)
    return good


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (
            way,
            f"{report['clips'] / statistics.median(cpu):.3g}",
            " ".join(f"{seconds:.1f}" for seconds in cpu),
            f"{report['clips'] / statistics.median(report['seconds'][way]):.3g}",
            " ".join(f"{seconds:.1f}" for seconds in report["seconds"][way]),
        )
        for way, cpu in report["cpu_seconds"].items()
    ]
    header = ["", "clips/s of a core", "core seconds of each turn", "clips/s by the clock", "s"]
    return "\n".join(
        [
            table(header, rows),
            f"the stage has {report['cpu_share']:.2f} of the bare command's throughput by the "
            f"cores' time, {report['share']:.2f} by the clock (to reach: {report['to_reach']})",
            f"{report['clips']} clips in {report['chunks']} chunks, {report['cores']} at once",
            machine_lines(report["machine"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=described)
    parser.add_argument("--videos", type=Path, help="a folder; default: six that are generated")
    parser.add_argument("--copies", type=int, default=1, help="how often each file is in the list")
    parser.add_argument("--chunks", type=int, help="default: as many as there are cores")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, help="where the clips go meanwhile")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    return answered(options, measure, shown)


if __name__ == "__main__":
    sys.exit(main())
