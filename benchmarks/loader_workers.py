"""The whole loader by number of worker processes: what `benchmarks.loader --workers` measures.

Videos are copied into memory that stays, as they are for an accelerator, and thrown away, so the
rate is the most that any training gets. Workers hand them over in new memory, as to a CPU, and in
shared memory that is reused, as to an accelerator. Efficiency is the rate over that of as many
times one worker; the consumer's share is the CPU time of the process that trains, over the time by
the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import material
from benchmarks.measuring import Turn, machine, machine_lines, table
from pipeline.configuration.schema import Clip
from pipeline.data.load.frame_source import FrameSource
from pipeline.data.load.loader import (
    Batch,
    PretrainingClips,
    PretrainingSteps,
    pretraining_batches,
)
from pipeline.data.load.options import LoaderOptions, present
from pipeline.data.load.shared_videos import SharedVideos
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.method.masks import TubeMask

TUBE = (2, 16, 16)
CODECS = ("h264", "jpeg", "raw")
MEMORY = ("new", "reused")  # that workers hand videos over in


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of every codec with every number of workers."""
    torch.set_num_threads(1)
    params = material.settings(
        f"data={options.data}", f"data.decode.short_side={options.short_side}"
    )
    clip = params.data.clip
    rows: dict[str, list[dict[str, Any]]] = {}
    size: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="loader-", dir=options.scratch) as name:
        folder = Path(name)
        every = material.videos(options.videos, folder / "videos")
        files = material.long_enough(every, clip.frames * clip.stride, clip.size)
        records = material.decoded(files, folder / "clips", params)
        for codec in CODECS:
            # A clip to each shard: as many workers as clips may read.
            shards = params.data.shards.model_copy(update={"codec": codec, "clips_per_shard": 1})
            entries = material.packed(records, folder / codec, shards)
            size[codec] = round(sum(entry.size for entry in entries) / len(entries))
            rows[codec] = [
                row(workers, memory, turn(entries, clip, workers, memory, options))
                for workers in options.workers
                for memory in (MEMORY if workers else MEMORY[:1])
            ]
    for measured in rows.values():
        add_efficiency(measured)
    return {
        "data": options.data,
        "short_side": options.short_side,
        "clip": {"frames": clip.frames, "stride": clip.stride, "size": clip.size},
        "batch_size": options.batch_size,
        "bytes_per_clip": size,
        "rates": rows,
        "machine": machine(),
    }


def turn(
    entries: Sequence[ClipEntry], clip: Clip, workers: int, memory: str, options: argparse.Namespace
) -> Turn:
    """Load for some seconds, after every worker has made a batch."""
    clips = PretrainingClips(entries, clip, TubeMask(ratio=0.9), TUBE, 0, options.batch_size)
    batches = _endless(clips, workers, memory)
    copy = torch.empty_like(next(batches).videos)
    for _ in range(max(2, 2 * workers)):
        copy.copy_(next(batches).videos)
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < options.seconds * options.rounds:
        count += len(copy.copy_(next(batches).videos))
    return Turn(count, time.process_time() - cpu, time.perf_counter() - wall)


def _endless(clips: PretrainingClips, workers: int, memory: str) -> Iterator[Batch]:
    steps = range(10**9)
    if memory == "new":
        return pretraining_batches(clips, steps, LoaderOptions(workers=workers, decoder="auto"))
    shared = SharedVideos(clips.batch_shape(), workers)
    source = FrameSource(decoder=present("auto", clips.entries))
    return load_in_order(PretrainingSteps(clips, source, 0, 1, shared), steps, workers, shared)


def row(workers: int, memory: str, turn: Turn) -> dict[str, Any]:
    """Return the numbers of one line of the table."""
    return {
        "workers": workers,
        "memory": memory,
        "clips_per_s": turn.count / turn.wall,
        "consumer_share": turn.cpu / turn.wall,
        "consumer_ms_per_clip": 1000 * turn.cpu / turn.count,
    }


def add_efficiency(rows: list[dict[str, Any]]) -> None:
    """Add what share of as many times the one worker's rate each number of workers reaches."""
    one = {row["memory"]: row["clips_per_s"] for row in rows if row["workers"] == 1}
    for row in rows:
        if row["workers"] and row["memory"] in one:
            row["efficiency"] = row["clips_per_s"] / (row["workers"] * one[row["memory"]])


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    header = [
        "",
        "workers",
        "memory",
        "clips/s",
        "efficiency",
        "consumer's core",
        "consumer, ms a clip",
    ]
    rows = [
        (codec, row["workers"], row["memory"], f"{row['clips_per_s']:.1f}",
         f"{row['efficiency']:.2f}" if "efficiency" in row else "",
         f"{row['consumer_share']:.1%}", f"{row['consumer_ms_per_clip']:.2f}")
        for codec, measured in report["rates"].items()
        for row in measured
    ]  # fmt: skip
    sizes = ", ".join(f"{name} {size:,}" for name, size in report["bytes_per_clip"].items())
    clip = report["clip"]
    return "\n".join(
        [
            table(header, rows),
            f"data={report['data']}: {clip['frames']} frames, stride {clip['stride']}; batches of "
            f"{report['batch_size']}; with 0 workers the consumer makes the clips itself",
            f"bytes of a video: {sizes}",
            machine_lines(report["machine"]),
        ]
    )
