"""Memory of a loader's worker over thousands of clips, for every codec.

    python -m benchmarks.worker_memory
    python -m benchmarks.worker_memory --clips 2000 --codecs raw --json

A worker is this process itself, reading without a cache of decoded clips. Resident memory is the
process's own: pages of files (shards, libraries) are the system's, and whether a library's are
shared changes with what other processes do. The slope is that of a straight line through all
readings after the first tenth.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks import material
from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.data.load import decoders as decoders
from pipeline.data.load.loader import PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.method.masks import TubeMask

CODECS = ("h264", "h264-torchcodec", "jpeg", "raw")
MIB = 2**20
BATCH = 4
READINGS = 200


def worker(codec: str, shards: Path, clips: int) -> dict[str, Any]:
    """Load `clips` clips in this process; return its memory on the way."""
    torch.set_num_threads(1)
    stored, _, decoder = codec.partition("-")
    params = material.settings(*_SMALL)
    entries = material.entries(shards / stored, stored)
    name: decoders.Decoder = "torchcodec" if decoder == "torchcodec" else "decord"
    process = psutil.Process()
    done, resident = [], []
    sampled = PretrainingClips(
        entries, params.data.clip, TubeMask(ratio=0.9), (2, 16, 16), seed=0, batch_size=BATCH
    )
    steps = range(-(-clips // BATCH))
    for batch in pretraining_batches(sampled, steps, LoaderOptions(decoder=name)):
        if batch.step % max(1, clips // BATCH // READINGS) == 0:
            gc.collect()
            done.append((batch.step + 1) * BATCH)
            memory = process.memory_info()
            resident.append((memory.rss - memory.shared) / MIB)
    settled = len(done) // 10
    slope = np.polyfit(done[settled:], resident[settled:], 1)[0] if len(done) > 20 else 0.0
    return {
        "clips": done[-1],
        "first_mib": round(resident[settled], 1),
        "last_mib": round(resident[-1], 1),
        "most_mib": round(max(resident), 1),
        "bytes_per_clip": round(float(slope) * MIB, 1),
    }


# Small pictures, so that 20,000 clips take minutes: a leak is one of objects, not of pixels.
_SMALL = ("data.decode.short_side=64", "data.clip.size=48", "data.decode.preset=ultrafast")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make the shards, then run one worker of each codec in a process of its own."""
    params = material.settings(*_SMALL)
    with tempfile.TemporaryDirectory(prefix="memory-", dir=options.scratch) as name:
        folder = Path(name)
        files = material.videos(options.videos, folder / "videos", sizes=("160x120",) * 4)
        files = material.long_enough(files, params.data.clip.frames * params.data.clip.stride, 64)
        records = material.decoded(files, folder / "clips", params)
        for codec in {codec.partition("-")[0] for codec in options.codecs}:
            shards = params.data.shards.model_copy(update={"codec": codec})
            material.packed(records, folder / codec, shards)
        found = {}
        for codec in options.codecs:
            command = [sys.executable, "-m", "benchmarks.worker_memory", "--worker", codec]
            command += ["--shards", str(folder), "--clips", str(options.clips)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[codec] = json.loads(done.stdout)
    return {"workers": found, "videos": len(files), "machine": machine()}


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (codec, f"{row['clips']:,}", row["first_mib"], row["last_mib"], row["most_mib"],
         row["bytes_per_clip"])
        for codec, row in report["workers"].items()
    ]  # fmt: skip
    header = ["", "clips", "MiB after a tenth", "at the end", "at most", "slope, bytes a clip"]
    return "\n".join([table(header, rows), machine_lines(report["machine"])])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.worker_memory", description=described
    )
    parser.add_argument("--videos", type=Path, help="a folder; default: four that are generated")
    parser.add_argument("--clips", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--scratch", type=Path, help="where the shards go meanwhile")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=CODECS, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return answered(options, lambda o: worker(o.worker, o.shards, o.clips), json.dumps)
    return answered(options, measure, shown)


if __name__ == "__main__":
    sys.exit(main())
