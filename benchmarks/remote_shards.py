"""The loader on shards that lie on a web server, beside the same shards on the disk.

    python -m benchmarks.remote_shards [--delay 0.02] [--workers 8] [--videos ../shared/clips/good]

The server is on loopback, in a process of its own, and answers each request after `--delay`
seconds. Nothing is kept on the disk, so every clip comes from the server each time. Loaders take
turns; each is started anew, and counted once its workers are busy.

A store is another machine, and the server takes cores from the loader. So its CPU time is measured,
too, and the ratio given again as it would be if the loader had these cores: as many clips more as
there are cores more, which holds where the cores are what limits it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks import loader_workers, material, pretrain_step
from benchmarks.loader_workers import CODECS
from benchmarks.measuring import answered, machine, machine_lines, table
from benchmarks.range_server import RangeServer
from pipeline.configuration.schema import Clip
from pipeline.data.shards.format import ClipEntry, summary_file

TO_REACH = 0.8


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of each codec, from the disk and from the server, and their ratio."""
    torch.set_num_threads(1)
    params = material.settings("data=k400", f"data.decode.short_side={options.short_side}")
    clip = params.data.clip
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="remote-", dir=options.scratch) as name:
        folder = Path(name)
        every = material.videos(options.videos, folder / "videos", material.SIZES[:4] * 2)
        files = material.long_enough(every, clip.frames * clip.stride, clip.size)
        records = material.decoded(files, folder / "clips", params)
        for codec in options.codecs:
            shards = params.data.shards.model_copy(update={"codec": codec, "clips_per_shard": 1})
            here = material.packed(records, folder / codec, shards)
            there, process = _served(here, folder / f"{codec}-there", options.delay)
            found: dict[str, list[float]] = {"disk": [], "server": [], "cores": []}
            try:
                for _ in range(options.rounds):
                    found["disk"].append(_rate(here, clip, options))
                    before, began = _cpu_seconds(process), time.perf_counter()
                    found["server"].append(_rate(there, clip, options))
                    taken = _cpu_seconds(process) - before
                    found["cores"].append(taken / (time.perf_counter() - began))
            finally:
                process.terminate()
            rows[codec] = _row({kind: statistics.median(each) for kind, each in found.items()})
    given = {key: getattr(options, key) for key in ("delay", "workers", "batch_size", "rounds")}
    return given | {"rates": rows, "to_reach": TO_REACH, "machine": machine()}


def _rate(entries: Sequence[ClipEntry], clip: Clip, options: argparse.Namespace) -> float:
    turn = loader_workers.turn(entries, clip, options.workers, "new", options)
    return turn.count / turn.wall


def _row(found: dict[str, float]) -> dict[str, float]:
    """Add the ratio, and as it would be if the server took none of this machine's cores."""
    ratio, cores = found["server"] / found["disk"], pretrain_step.cores()
    return {**found, "ratio": ratio, "ratio_apart": ratio * cores / (cores - found["cores"])}


def _cpu_seconds(process: multiprocessing.process.BaseProcess) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def _served(
    here: Sequence[ClipEntry], there: Path, delay_s: float
) -> tuple[list[ClipEntry], multiprocessing.process.BaseProcess]:
    """Return the same clips with nothing but an index beside them, and the server's process."""
    folder = here[0].shard.parent
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(folder, delay_s, sender), daemon=True)
    process.start()
    shutil.copytree(folder, there, ignore=shutil.ignore_patterns("*.tar"))
    shards = [json.loads(summary_file(tar).read_text()) for tar in sorted(folder.glob("*.tar"))]
    storage = {"address": receiver.recv(), "cache_gib": 0.0}
    (there / "index.json").write_text(json.dumps({"shards": shards, "storage": storage}))
    return [replace(entry, shard=there / entry.shard.name) for entry in here], process


def _serve(folder: Path, delay_s: float, sender: Connection) -> None:
    server = RangeServer(folder, delay_s)
    sender.send(server.address)
    server.serve_forever()


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (codec, *(f"{row[key]:.1f}" for key in ("disk", "server")),
         *(f"{row[key]:.2f}" for key in ("ratio", "cores", "ratio_apart")))
        for codec, row in report["rates"].items()
    ]  # fmt: skip
    return "\n".join(
        [
            table(
                ["", "clips/s, disk", "server", "ratio", "server's cores", "ratio without"], rows
            ),
            f"to reach: {report['to_reach']}; {report['workers']} workers, batches of "
            f"{report['batch_size']}, an answer after {1000 * report['delay']:g} ms",
            machine_lines(report["machine"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.remote_shards", description=described
    )
    parser.add_argument("--videos", type=Path, help="a folder; default: eight that are generated")
    parser.add_argument("--short-side", type=int, default=256, help="of our clips, in pixels")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds before each answer")
    parser.add_argument("--workers", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=CODECS[:2])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn, times the rounds")
    parser.add_argument("--scratch", type=Path, help="where the shards go meanwhile")
    parser.add_argument("--json", action="store_true")
    return answered(parser.parse_args(arguments), measure, shown)


if __name__ == "__main__":
    sys.exit(main())
