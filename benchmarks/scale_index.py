"""What the index of millions of clips costs: written, at the start of a training, in its workers.

`benchmarks.scale --only index` measures it. The clips are drawn: their lists are there, their
shards are not, so what reads a picture is not measured.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from pipeline.data.shards import clip_table, format, table_file
from pipeline.data.shards.index import DatasetIndex
from pipeline.runtime.files import write_json

PER_SHARD = 1000  # clips
READS = 10_000  # of clips, at random places
CLASSES = 400  # of which each split has some clips, from 8,000 clips on
PURPOSES = {  # in words
    "train": "training",
    "mixture": f"training on a mixture of {CLASSES}",
    "val": "evaluation",
}
VAL = 20  # one shard in so many is of split val
MIB = 2**20


def draw(folder: Path, clips: int) -> tuple[format.ShardSummary, ...]:
    """Write the lists and the index of so many clips; the ids of a shard are far apart."""
    shards = []
    count = -(-clips // PER_SHARD)
    for number in range(count):
        split = "val" if number % VAL == 0 else "train"
        name, ids = format.shard_name(split, number, 0), range(number, clips, count)
        line = (
            '{{"id": "clip_{0:08d}", "offset": {1}, "size": 812345, "frames": 300, "fps": 30.0, '
            '"width": 456, "height": 320, "split": "'
            + split
            + '", "labels": {{"label": "class {2}"'
            '}}, "codec": "h264", "xxh3": "{0:016x}", "sha256": "{0:064x}"}}\n'
        )
        with format.clips_file(folder / name).open("w", encoding="utf-8") as file:
            file.writelines(
                line.format(n, k * 820_000, n // VAL % CLASSES) for k, n in enumerate(ids)
            )
        size = len(ids)
        shard = format.ShardSummary(name, "0" * 64, 820_000 * size, size, 300 * size, split, number)
        shards.append(shard)
    shards.sort(key=lambda shard: shard.name)
    write_json(
        folder / "index.json",
        {
            "name": "drawn",
            "codec": "h264",
            "shards": [asdict(shard) for shard in shards],
            "census": {"ok": clips},
            "splits": {},
            "lost": [],
        },
    )
    return tuple(shards)


def write(folder: Path) -> None:
    """Write the table of clips, as the index stage does."""
    table_file.write(folder, DatasetIndex.load(folder).shards)


def start(folder: Path, purpose: str) -> dict[str, Any]:
    """Begin as training (`train`, `mixture`) or evaluation (`val`) does; let a worker read clips.

    A mixture is by label, of components as heavy as their number says.

    Memory is what the process has more than before, once PyTorch and the loader are imported: its
    own (`mib`) and with the pages of files that it has mapped (`rss_mib`).
    """
    import pyarrow  # noqa: F401 - loaded once, not by the index
    import torch  # noqa: F401

    from pipeline.configuration.schema.training import Mixture
    from pipeline.data.load import order
    from pipeline.data.load.mixture import mixed
    from pipeline.data.load.options import LoaderOptions, check_workers, present

    began, before = time.perf_counter(), _memory()
    entries: Sequence[format.ClipEntry]
    entries = DatasetIndex.load(folder).clips(["val" if purpose == "val" else "train"])
    check_workers(1, len(clip_table.counts(entries, "shard")))
    present(LoaderOptions(decoder="decord").decoder, entries)
    if purpose != "val":
        mixture = None
        if purpose == "mixture":
            weights = {f"class {number}": number + 1.0 for number in range(CLASSES)}
            mixture, entries = mixed(entries, Mixture(column="label", weights=weights), "")
        samples = order.batch(0, 10**4, n=len(entries), batch_size=256, mixture=mixture)
        seen = [entries[index].id for _, index in samples]
    else:
        seen = [entry.id for entry in entries[:256]]
    took, used = time.perf_counter() - began, _memory()
    reader, writer = multiprocessing.Pipe(duplex=False)
    job = multiprocessing.get_context("fork").Process(target=_read, args=(entries, writer))
    job.start()
    return {
        "clips": len(entries),
        "seen": len(seen),
        "seconds": round(took, 2),
        **{name: round(used[name] - before[name], 1) for name in used},
        "process_mib": round(used["rss_mib"], 1),
        "worker": reader.recv(),
    }


def _read(entries: Sequence[format.ClipEntry], answer: Any) -> None:
    """Read clips at random places, in the order of a training."""
    from pipeline.data.load import order

    before, began = _memory(), time.perf_counter()
    batch, frames = 64, 0
    for step in range(READS // batch + 1):
        for _, index in order.batch(0, step, n=len(entries), batch_size=batch):
            frames += entries[index].frames
    took, used = time.perf_counter() - began, _memory()
    answer.send(
        {
            "us_a_clip": round(took / READS * 1e6, 1),
            **{name: round(used[name] - before[name], 1) for name in used},
        }
    )


def _memory() -> dict[str, float]:
    used = psutil.Process().memory_full_info()
    return {"mib": used.uss / MIB, "rss_mib": used.rss / MIB}


def measure(folder: Path, clips: int, cost: Callable[..., dict[str, float]]) -> dict[str, Any]:
    """Measure each part in a process of its own; `cost` runs a command."""
    draw(folder, clips)
    command = [sys.executable, "-m", __name__]
    report: dict[str, Any] = {"clips": clips}
    report["table written"] = cost([*command, "write", str(folder)], Path.cwd())
    report["table_mib"] = round((folder / table_file.FILE).stat().st_size / MIB, 1)
    for purpose in PURPOSES:
        place = folder / f"{purpose}.json"
        report[purpose] = cost([*command, purpose, str(folder), str(place)], Path.cwd())
        report[purpose] |= json.loads(place.read_text(encoding="utf-8"))
    return report


def main(arguments: list[str]) -> None:
    """Do one part: `write FOLDER`, or `train | mixture | val FOLDER ANSWER.json`."""
    part, folder = arguments[0], Path(arguments[1])
    if part == "write":
        write(folder)
    else:
        write_json(arguments[2], start(folder, part))


if __name__ == "__main__":
    main(sys.argv[1:])
