"""What several encoders cost beside one: each decodes its clips, or decoded views are shared.

    python -m benchmarks.encoders [--clips 192] [--videos DIR] [--json]

Encoders of the demo's size, with weights of their own, are asked for the features of the same clips
by `evaluation.features.extract`, one after the other as the runs of an experiment are. Both ways
take turns, encoder by encoder, and have to give the same bytes. The clips are the embedded data's,
or, with `--videos`, those of a folder of real videos at 256 pixels, looked at in 16 frames of 64.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import material
from benchmarks.measuring import answered, machine, machine_lines, table
from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.load.evaluation_clips import centred_view
from pipeline.data.manifest import manifest_stage
from pipeline.data.shards import index_stage, shard_stage
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.evaluation import features
from pipeline.evaluation.clips import VideoClips, caches
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Pooled
from pipeline.method.vit import Encoder
from pipeline.runtime.allocation import keep_freed_memory

TO_REACH = 2.0  # times the cost of one encoder
ALONE, SHARED = "each decodes", "views shared"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    return answered(parser().parse_args(arguments), measure, shown)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    made = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=described)
    made.add_argument("--encoders", type=int, default=9)
    made.add_argument("--clips", type=int, default=192, help="of the embedded data")
    made.add_argument("--videos", type=Path, help="a folder of videos, in place of these")
    made.add_argument("--json", action="store_true")
    return made


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        params = settings(options)
        entries = real(options.videos, params) if options.videos else embedded(params)
        clip, models = params.data.clip, [encoder(params, k) for k in range(options.encoders)]
        with contextlib.redirect_stdout(sys.stderr):
            view = centred_view(clip)
            kept = caches(Path("views"), clip, {view: len(entries)}, 64.0, "encoders")
            ways = {
                ALONE: VideoClips(entries, clip, view, decoder="decord"),
                SHARED: VideoClips(entries, clip, view, decoder="decord", cache=kept[view]),
            }
            extracted(models[0], ways[ALONE], "warm")  # imports
            spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            same = True
            for number, model in enumerate(models):
                values = []
                for way, clips in ways.items():
                    began = time.process_time(), time.perf_counter()
                    values.append(extracted(model, clips, f"{number}-{way[:4]}"))
                    ended = time.process_time(), time.perf_counter()
                    spent[way].append((ended[0] - began[0], ended[1] - began[1]))
                same = same and values[0] == values[1]
        size = sum(file.stat().st_size for file in Path("views").rglob("*") if file.is_file())
    one = spent[ALONE][0]
    return {
        "clips": len(entries),
        "clip": [clip.frames, clip.size, clip.size],
        "encoders": options.encoders,
        "bytes_kept": size,
        "features_are_equal": same,
        "cpu_s": {way: [turn[0] for turn in turns] for way, turns in spent.items()},
        "times_one_cpu": {way: sum(t[0] for t in turns) / one[0] for way, turns in spent.items()},
        "times_one_wall": {way: sum(t[1] for t in turns) / one[1] for way, turns in spent.items()},
        **machine(),
    }


def settings(options: argparse.Namespace) -> Params:
    """The demo, with so many clips or, for real videos, larger views and tubes."""
    overrides = [
        "experiment=demo",
        "data.chunks=1",
        f"data.synthetic.train={options.clips}",
        "data.synthetic.val=0",
        "data.synthetic.test=0",
    ]
    if options.videos:
        overrides += ["data.clip.frames=16", "data.clip.size=64", "model.tube=[2,16,16]"]
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="benchmarks")


def encoder(params: Params, seed: int) -> Encoder:
    """An encoder of the demo's size, with weights of its own."""
    run = next(iter(params.runs.values()))
    torch.manual_seed(seed)
    return sigma_model(run.model, run.objective, params.data.clip).encoder


def embedded(params: Params) -> Sequence[ClipEntry]:
    """Clips of the embedded data, made by the real stages in this folder."""
    with contextlib.redirect_stdout(sys.stderr):
        manifest_stage.run(params)
        for stage in (download_stage, decode_stage, shard_stage):
            stage.run(params, 0)
        index_stage.run(params)
    return DatasetIndex.load(DataLayout(params.data.name).shards).clips(["train"])


def real(folder: Path, params: Params) -> Sequence[ClipEntry]:
    """The clips of a folder of videos, at the size of the public data sets."""
    full = material.settings()
    files = material.long_enough(material.videos(folder, Path("videos")), 16, 64)
    records = material.decoded(files, Path("clips"), full)
    return material.packed(records, Path("shards"), params.data.shards)


def extracted(model: Encoder, clips: VideoClips, name: str) -> bytes:
    """Return the bytes of an encoder's features of all clips."""
    found = features.extract(
        Pooled(model),
        {"train": clips},
        path=Path(f"{name}.npz"),
        key={"encoder": name},
        options=ExecutionOptions(64, device=torch.device("cpu"), label="encoders"),
    )
    return found["train"].values.tobytes()


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (
            way,
            f"{report['cpu_s'][way][0]:.2f}",
            f"{sum(report['cpu_s'][way]):.2f}",
            f"{report['times_one_cpu'][way]:.2f}",
            f"{report['times_one_wall'][way]:.2f}",
        )
        for way in (ALONE, SHARED)
    ]
    frames, size, _ = report["clip"]
    count = report["encoders"]
    equal = "equal" if report["features_are_equal"] else "NOT EQUAL"
    header = ("", "first, CPU s", f"all {count}, CPU s", "times one that decodes", "by the clock")
    return "\n".join(
        [
            f"{report['clips']} clips of {frames} x {size} x {size}, {count} encoders, one thread",
            table(header, rows),
            f"features {equal}; {report['bytes_kept'] / 2**20:.1f} MiB of views; to reach: "
            f"{TO_REACH:g} times one",
            machine_lines(report),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
