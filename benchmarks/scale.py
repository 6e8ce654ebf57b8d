"""How planning grows: a list of millions of clips, Snakemake's dry run, and a list that grows.

    python -m benchmarks.scale                    # all four, at full size: about half an hour
    python -m benchmarks.scale --only plan --clips 1000000

plan: the manifest stage on a list of --clips clips in chunks of 1,000.
dry: `snakemake -n` for a list of --dry-clips clips, with nothing done, and with everything done.
index: the index of --index-clips drawn clips: written, at the start of a training, in a worker.
grow: a list of --grow-clips real clips is made into shards by the real stages; then 1 % is added at
its end, and what that costs is compared with what the whole cost.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import material, scale_index
from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.configuration import composition
from pipeline.configuration.layout import DataLayout
from pipeline.data.manifest import video_list
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
PER_CHUNK = 625  # clips: 384 chunks of Kinetics-400
STAGES = ("download", "decode", "shard")
# The kernel counts to a new process's largest memory what its parent held when it was started. So a
# small process starts the one to be measured: not this one, which may have torch in it.
MEASURED = """\
import json, os, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.call(sys.argv[2:])
wall = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([wall, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(status)
"""


def write_list(path: Path, clips: int) -> None:
    """Write a list of local videos that are not there, as long as a real one's lines are."""
    with path.open("w", encoding="utf-8") as file:
        file.write("id,path,start,end,label,split\n")
        for n in range(clips):
            name = f"clip_{n:08d}"
            file.write(
                f"{name},videos/class_{n % 400}/{name}.mp4,{n % 300}.5,{n % 300 + 10}.5,"
                f"class {n % 400},{'val' if n % 20 == 0 else 'train'}\n"
            )


def prepared(folder: Path, listed: Path, chunks: int, *overrides: str) -> None:
    """Make `folder` a project: the workflow, the code, and params.yaml for this list."""
    for name in ("Snakefile", "workflow", "pipeline", "profiles"):
        (folder / name).symlink_to(PROJECT / name)
    text = composition.compose(
        ["experiment=tiny", "data=k400", f"data.manifest={listed}", f"data.chunks={chunks}",
         *overrides]
    )  # fmt: skip
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def cost(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command; return its seconds by the clock, of processors, and its largest memory.

    Raises UserError with its last words where it fails.
    """
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile() as used:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", MEASURED, used.name, *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
        )
        if done.returncode:
            said.seek(0)
            raise UserError(f"{' '.join(command)} failed: {said.read().decode()[-2000:]}")
        wall, processor, kib = json.loads(Path(used.name).read_text(encoding="utf-8"))
    return {
        "seconds": round(wall, 2),
        "cpu_seconds": round(processor, 2),
        "mib": round(kib / 1024, 1),
    }


def pipeline(*arguments: str) -> list[str]:
    """Return the command line of a stage."""
    return [sys.executable, "-m", "pipeline", *arguments]


def dry_run() -> list[str]:
    """Return the command line of `snakemake -n`."""
    return [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--", "data"]


def plan(folder: Path, clips: int) -> dict[str, Any]:
    """Measure the manifest stage."""
    write_list(folder / "list.csv", clips)
    chunks = max(1, clips // 1000)
    prepared(folder, folder / "list.csv", chunks)
    first = cost(pipeline("manifest"), folder)
    again = cost(pipeline("manifest"), folder)
    return {"clips": clips, "chunks": chunks, "first": first, "again, unchanged": again}


def dry(folder: Path, clips: int) -> dict[str, Any]:
    """Measure the dry run before anything is done, and after all data stages."""
    write_list(folder / "list.csv", clips)
    chunks = max(1, clips // PER_CHUNK)
    prepared(folder, folder / "list.csv", chunks)
    nothing_done = cost(dry_run(), folder)
    cost(pipeline("manifest"), folder)
    _pretend(DataLayout("k400"), folder, chunks)
    # Records the files as made by the present rules; nothing runs.
    cost([sys.executable, "-m", "snakemake", "--touch", "--cores", "1", "data"], folder)
    return {
        "clips": clips,
        "chunks": chunks,
        "nothing done": nothing_done,
        "all done": cost(dry_run(), folder),
    }


def _pretend(layout: DataLayout, folder: Path, chunks: int) -> None:
    """Write the chunk manifests as the stages would, for clips that are not there."""
    for chunk in range(chunks):
        rows = video_list.read(folder / layout.chunk_list(chunk), folder="")
        clips = [
            ClipRecord(
                id=row.id, outcome=Outcome.OK, file=f"data/k400/clips/{chunk}/{row.id}.mp4",
                sha256="0" * 64, bytes=800_000, frames=300, fps=30.0, width=456, height=320,
                split=row.split, labels={"label": row.label}, source=row.path,
                start=row.start, end=row.end,
            )
            for row in rows
        ]  # fmt: skip
        for stage, path in zip(
            STAGES,
            (layout.downloaded(chunk), layout.decoded(chunk), layout.sharded(chunk)),
            strict=True,
        ):
            ChunkManifest(stage=stage, chunk=chunk, clips=clips).write(folder / path)
    index = folder / layout.index
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("{}\n", encoding="utf-8")


def index(folder: Path, clips: int) -> dict[str, Any]:
    """Measure the index of drawn clips."""
    return scale_index.measure(folder, clips, cost)


def grow(folder: Path, clips: int) -> dict[str, Any]:
    """Measure all data stages on a list, and again with 1 % more at its end."""
    files = material.videos(None, folder / "videos", sizes=("320x240",) * 4)
    more = max(1, clips // 100)
    lines = [
        f"clip_{n:06d},{files[n % len(files)]},{n % 31 / 4},{n % 31 / 4 + 2}"
        for n in range(clips + more)
    ]
    chunks = max(1, round(clips / PER_CHUNK))
    listed = folder / "list.csv"
    prepared(folder, listed, chunks, "data.decode.short_side=64")
    found: dict[str, Any] = {"clips": clips, "added": more, "chunks": chunks}
    for name, count in (("whole", clips), ("1 % more", clips + more), ("nothing new", None)):
        if count is not None:
            listed.write_text("\n".join(["id,path,start,end", *lines[:count]]) + "\n", "utf-8")
        before = time.time_ns()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        for stage in ("manifest", *STAGES, "index"):
            for chunk in range(chunks) if stage in STAGES else (None,):
                options = [] if chunk is None else ["--chunk", str(chunk)]
                cost(pipeline(stage, *options), folder)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        found[name] = {
            "cpu_seconds": round(
                spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime, 2
            ),
            **_written(folder / "data" / "k400", before),
        }
    return found


def _written(folder: Path, since: int) -> dict[str, int]:
    """Count what was written since then: clips that were decoded, and bytes of shards."""
    new = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime_ns > since]
    return {
        "clips_decoded": sum(path.suffix == ".mp4" for path in new),
        "clip_bytes": sum(path.stat().st_size for path in new if path.suffix == ".mp4"),
        "shard_bytes": sum(path.stat().st_size for path in new if path.suffix == ".tar"),
        "shards": sum(path.suffix == ".tar" for path in new),
    }


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = []
    for name in ("plan", "dry"):
        for state, used in report.get(name, {}).items():
            if isinstance(used, dict):
                what = f"{name}: {report[name]['clips']:,} clips, {state}"
                rows.append((what, used["seconds"], used["cpu_seconds"], used["mib"]))
    lines = [table(["", "s", "core s", "MiB"], rows)] if rows else []
    if found := report.get("index"):
        lines.append(_shown_index(found))
    if grown := report.get("grow"):
        whole = grown["whole"]
        rows = []
        for state in ("whole", "1 % more", "nothing new"):
            one = grown[state]
            written = one["clip_bytes"] + one["shard_bytes"]
            share = written / (whole["clip_bytes"] + whole["shard_bytes"])
            rows.append(
                (f"grow: {grown['clips']:,} clips, {state}", one["cpu_seconds"],
                 one["clips_decoded"], one["shards"], f"{written / 1e6:.1f}", f"{share:.2%}")
            )  # fmt: skip
        header = ["", "core s", "clips decoded", "shards written", "MB written", "of the whole"]
        lines.append(table(header, rows))
    return "\n".join([*lines, machine_lines(report["machine"])])


def _shown_index(found: dict[str, Any]) -> str:
    rows = [("table written", found["table written"]["seconds"], found["table written"]["mib"], "")]
    reads = f"{scale_index.READS:,} clips"
    for purpose, what in scale_index.PURPOSES.items():
        begun = found[purpose]
        worker = begun["worker"]
        rows.append((f"{what} begins: {begun['clips']:,} clips", begun["seconds"], begun["mib"],
                     begun["rss_mib"]))  # fmt: skip
        rows.append((f"  its worker: {reads}, {worker['us_a_clip']} us each", "", worker["mib"],
                     worker["rss_mib"]))  # fmt: skip
    header = [f"index: {found['clips']:,} clips", "s", "MiB more", "with files"]
    return table(header, rows) + f"\ntable: {found['table_mib']:,} MiB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=described)
    parser.add_argument("--only", choices=("plan", "dry", "index", "grow"))
    parser.add_argument("--clips", type=int, default=10_000_000, help="default: %(default)s")
    parser.add_argument("--dry-clips", type=int, default=240_000, help="default: %(default)s")
    parser.add_argument("--index-clips", type=int, default=10_000_000, help="default: %(default)s")
    parser.add_argument("--grow-clips", type=int, default=1250, help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, help="where the files go meanwhile")
    parser.add_argument("--json", action="store_true")
    return answered(parser.parse_args(arguments), measure, shown)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for."""
    parts: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
        "plan": (plan, options.clips),
        "dry": (dry, options.dry_clips),
        "index": (index, options.index_clips),
        "grow": (grow, options.grow_clips),
    }
    report: dict[str, Any] = {}
    for name, (part, clips) in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="scale-", dir=options.scratch) as folder:
                report[name] = part(Path(folder).resolve(), clips)
    report["machine"] = machine()
    return report


if __name__ == "__main__":
    sys.exit(main())
