"""Clips a second on one core: the usual way, the same on shards, and this project's loader.

    python -m benchmarks.loader --videos ../shared/clips/good
    python -m benchmarks.loader --json
    python -m benchmarks.loader --workers 0,1,2,4,8 --batch-size 16

One process and one thread; all read the same videos and take turns of a second. A clip is 16
frames, every fourth of the video from a random start, cropped at random at one of four scales and
resized to 224 x 224. The usual way is what VideoMAE's and SIGMA's loaders do: decord on the file
as it was downloaded, PIL on every frame, then one normalised float tensor. Ours hands out bytes,
which are normalised where the model is; `+ normalise` does that here, on the CPU, as well. With
several masks for each clip (`objective.masks_per_clip`) it counts once for each of them.

With `--workers` the whole loader is measured instead, by number of processes
(`benchmarks.loader_workers`).
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import decord
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import loader_workers, material
from benchmarks.measuring import Speed, answered, machine, machine_lines, table, take_turns
from pipeline.configuration.schema import Clip, Params
from pipeline.data.load import decoders as decoders
from pipeline.data.load.loader import Batch, PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.shards.format import ClipEntry
from pipeline.method.masks import TubeMask
from pipeline.method.pixels import MEAN, STD, normalise

ORIGINALS = "decord + PIL, original files"
TO_REACH = {"h264": 4.0, "jpeg": 12.0, "raw": 40.0}  # times the first
BATCH = 4
MASKS = 4  # of a clip that is decoded once (MAE-ST)
TUBE = (2, 16, 16)


class Usual:
    """Frames by decord, cropped and resized one by one by PIL, stacked and normalised."""

    def __init__(self, clip: Clip, seed: int) -> None:
        self.clip = clip
        self.random = random.Random(seed)

    def __call__(self, video: str | io.BytesIO) -> Tensor:
        """Return one clip, float (3,T,size,size)."""
        clip = self.clip
        reader = decord.VideoReader(video, num_threads=1)
        span = (clip.frames - 1) * clip.stride + 1
        start = self.random.randrange(max(1, len(reader) - span + 1))
        indices = np.minimum(start + clip.stride * np.arange(clip.frames), len(reader) - 1)
        pictures = [Image.fromarray(frame) for frame in reader.get_batch(indices).asnumpy()]
        box = self._box(*pictures[0].size)
        size = (clip.size, clip.size)
        cropped = [each.crop(box).resize(size, Image.Resampling.BILINEAR) for each in pictures]
        if self.random.random() < 0.5:
            cropped = [each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in cropped]
        stacked = torch.from_numpy(np.stack([np.asarray(each) for each in cropped]))
        pixels = stacked.permute(3, 0, 1, 2).contiguous().float().div(255)
        mean, deviation = (torch.tensor(each).view(3, 1, 1, 1) for each in (MEAN, STD))
        return pixels.sub_(mean).div_(deviation)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        short = min(width, height)
        sides = [int(short * scale) for scale in self.clip.scales]
        pairs = [(w, h) for (i, w), (j, h) in itertools.product(enumerate(sides), repeat=2)
                 if abs(i - j) <= 1]  # fmt: skip
        wide, tall = self.random.choice(pairs)
        left, top = (
            self.random.randint(0, 4) * free // 4 for free in (width - wide, height - tall)
        )
        return left, top, left + wide, top + tall


def usual_on_files(files: Sequence[Path], clip: Clip) -> Callable[[], int]:
    """One call loads one clip of each file."""
    load = Usual(clip, seed=0)

    def work() -> int:
        for path in files:
            load(str(path))
        return len(files)

    return work


def usual_on_shards(shards: Sequence[Path], clip: Clip) -> Callable[[], int]:
    """One call goes through the tars once, as the webdataset package reads them."""
    import webdataset

    load = Usual(clip, seed=0)

    def work() -> int:
        count = 0
        names = [str(path) for path in shards]
        for (video,) in webdataset.WebDataset(names, shardshuffle=False).to_tuple("mp4"):
            load(io.BytesIO(video))
            count += 1
        return count

    return work


def ours(
    entries: Sequence[ClipEntry],
    clip: Clip,
    decoder: decoders.Decoder,
    *,
    finish: bool = False,
    masks: int = 1,
) -> Callable[[], int]:
    """One call loads a batch; with `finish`, normalises it, too. A clip counts once for a mask."""
    mask = TubeMask(ratio=0.9)

    def endless() -> Iterator[Batch]:
        clips = PretrainingClips(entries, clip, mask, TUBE, 0, BATCH, masks_per_clip=masks)
        return pretraining_batches(clips, range(10**9), LoaderOptions(decoder=decoder))

    batches = endless()

    def work() -> int:
        batch = next(batches)
        if finish:
            normalise(batch.videos)
        return len(batch.ids) * masks

    return work


def contenders(
    files: Sequence[Path], folder: Path, params: Params
) -> tuple[dict[str, Callable[[], int]], dict[str, float]]:
    """Make the shards; return what takes turns, and the bytes of a clip in each codec."""
    clip = params.data.clip
    records = material.decoded(files, folder / "clips", params)
    found: dict[str, Callable[[], int]] = {ORIGINALS: usual_on_files(files, clip)}
    size = {"original": sum(path.stat().st_size for path in files) / len(files)}
    for codec in TO_REACH:
        shards = params.data.shards.model_copy(update={"codec": codec})
        entries = material.packed(records, folder / codec, shards)
        size[codec] = sum(entry.size for entry in entries) / len(entries)
        if codec == "h264":
            tars = sorted((folder / codec).glob("*.tar"))
            found["webdataset + decord + PIL, shards"] = usual_on_shards(tars, clip)
            found["ours, h264, decord"] = ours(entries, clip, "decord")
            found[f"ours, h264, decord, {MASKS} masks"] = ours(entries, clip, "decord", masks=MASKS)
            if decoders.chosen("auto") == "torchcodec":
                found["ours, h264, torchcodec"] = ours(entries, clip, "torchcodec")
            if decoders.problem_of("nvdec") is None:
                found["ours, h264, nvdec"] = ours(entries, clip, "nvdec")
        else:
            found[f"ours, {codec}"] = ours(entries, clip, "auto")
    found["ours, raw + normalise"] = ours(entries, clip, "auto", finish=True)
    return found, size


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all numbers of the report."""
    torch.set_num_threads(1)
    params = material.settings(f"data.decode.short_side={options.short_side}")
    clip = params.data.clip
    with tempfile.TemporaryDirectory(prefix="loader-", dir=options.scratch) as name:
        folder = Path(name)
        every = material.videos(options.videos, folder / "videos")
        files = material.long_enough(every, clip.frames * clip.stride, clip.size)
        working, size = contenders(files, folder, params)
        speeds = take_turns(working, rounds=options.rounds, seconds=options.seconds)
    first = speeds[ORIGINALS]
    return {
        "videos": [path.name for path in files],
        "left_out": len(every) - len(files),
        "short_side": options.short_side,
        "clip": {"frames": clip.frames, "stride": clip.stride, "size": clip.size},
        "bytes_per_clip": {codec: round(value) for codec, value in size.items()},
        "speeds": {name: _row(speed, first) for name, speed in speeds.items()},
        "to_reach": TO_REACH,
        "machine": machine(),
    }


def _row(speed: Speed, first: Speed) -> dict[str, float]:
    return {
        "clips_per_cpu_s": _three(speed.per_cpu_s),
        "clips_per_s": _three(speed.per_wall_s),
        "times_the_first": _three(speed.per_cpu_s / first.per_cpu_s),
        "clips": speed.count,
    }


def _three(value: float) -> float:
    """Round to three digits."""
    return round(value, 2 - math.floor(math.log10(value))) if value else 0.0


def shown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    rows = [
        (name, f"{row['clips_per_cpu_s']:g}", f"{row['clips_per_s']:g}",
         f"{row['times_the_first']:g} x", row["clips"])
        for name, row in report["speeds"].items()
    ]  # fmt: skip
    sizes = ", ".join(f"{name} {size:,}" for name, size in report["bytes_per_clip"].items())
    aims = ", ".join(f"{codec} {times:g} x" for codec, times in report["to_reach"].items())
    return "\n".join(
        [
            table(["", "clips/s of a core", "clips/s by the clock", "the first", "clips"], rows),
            f"to reach: {aims}",
            f"bytes of a video: {sizes}",
            f"{len(report['videos'])} videos: {', '.join(report['videos'])}"
            + (f" ({report['left_out']} too short or small)" if report["left_out"] else ""),
            machine_lines(report["machine"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table or, with `--json`, one JSON object."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=described)
    parser.add_argument("--videos", type=Path, help="a folder; default: six that are generated")
    parser.add_argument("--short-side", type=int, default=256, help="of our clips, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--scratch", type=Path, help="where the shards go meanwhile")
    parser.add_argument(
        "--workers", type=_numbers, help="such as 0,1,2,4: instead, the loader by workers"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="with --workers")
    parser.add_argument("--data", default="k400", help="with --workers: how clips are kept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.workers:
        return answered(options, loader_workers.measure, loader_workers.shown)
    return answered(options, measure, shown)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
