"""The loader and real steps together: how much of the time a step waits for its clips.

Generated videos, packed by the real stages, are loaded by as many workers as there are cores but
one, and trained on as the training loop does it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import material, pretrain_step
from benchmarks.accelerator.measurement import Measurement, step_arguments
from benchmarks.contenders import Ours
from pipeline.configuration.schema import Clip
from pipeline.data.load.decoders import Decoder, problem_of
from pipeline.data.load.loader import PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.shards.format import ClipEntry

CODECS = ("h264", "jpeg")
STEPS, WARM = 24, 6


def measurements(options: argparse.Namespace) -> Iterator[Measurement | str]:
    """Yield a row for each codec: steps that wait for clips, beside those that need none."""
    workers = 1 if options.small else pretrain_step.cores() - 1
    model_name, clips = ("vit_small", 1) if options.small else ("vit_base", 64)
    further = ["--teacher-bf16", "--threads", "1"]
    further += [] if options.small else ["--compile", "--teacher-compile"]
    chosen = step_arguments(options, model_name, "sigma_dino", clips, *further)
    device = torch.device(options.device)
    run, clip = pretrain_step.settings(chosen, chosen.objective)
    model, _ = pretrain_step.build(run, clip, None)
    ours = Ours("ours", model.to(device), run, device)
    batch = pretrain_step.random_batch(run, clip, device)
    alone = min(pretrain_step.timed(lambda: ours.step(batch), device).wall for _ in range(5))
    yield f"{workers} workers; a step that has its clips takes {1000 * alone:.1f} ms"
    with tempfile.TemporaryDirectory(prefix="feeding-") as name:
        folder = Path(name)
        files = material.videos(None, folder / "videos", material.SIZES[:2])
        records = material.decoded(files, folder / "clips", material.settings())
        for codec in CODECS:
            shards = material.settings(f"data.shards.codec={codec}").data.shards
            entries: list[ClipEntry] = []
            for copy in range(workers):  # a worker needs a shard of its own
                entries += material.packed(records, folder / codec / str(copy), shards)
            decoders: tuple[Decoder, ...] = ("decord",)
            if codec == "h264" and problem_of("nvdec") is None:
                decoders += ("nvdec",)
            for decoder in decoders:
                loading = LoaderOptions(workers=workers, decoder=decoder, device=device)
                yield fed(codec, ours, entries * 64, clip, loading)


def fed(
    codec: str, ours: Ours, entries: Sequence[ClipEntry], clip: Clip, options: LoaderOptions
) -> Measurement:
    """Train on what the loader hands over; tell how long was waited for it."""
    clips = PretrainingClips(
        entries,
        clip,
        ours.run.objective.mask,
        ours.run.model.tube,
        seed=0,
        batch_size=ours.run.trainer.batch_size,
    )
    batches = pretraining_batches(clips, range(WARM + STEPS), options)
    waited, began = 0.0, 0.0
    for step in range(WARM + STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        if step == WARM:
            waited, began = 0.0, asked
        waited += time.perf_counter() - asked
        ours.step(batch)
    whole = time.perf_counter() - began
    rate = STEPS * len(batch.ids) / whole
    name = f"{codec} {options.decoder}" if codec == "h264" else codec
    record = {"codec": name, "workers": options.workers, "clips_per_s": rate}
    return Measurement(
        {**record, "waiting": waited / whole},
        f"{name:11s} {options.workers:3d} workers  {rate:8,.1f} clips/s, "
        f"{waited / whole:.1%} waiting",
    )
