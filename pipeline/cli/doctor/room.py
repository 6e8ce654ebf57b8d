"""Free disk against what the experiment is going to write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.doctor import estimates
from pipeline.cli.doctor.findings import Finding, missing, ok
from pipeline.cli.doctor.sources import summarised
from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.progress import binary_bytes


def disk(params: Params) -> Iterator[Finding]:
    """What is still to be made, on the disk of this folder."""
    need = 0.0
    parts = []
    for name in params.data_sets:
        on_it = params.on(name)
        footage, is_fetched = footage_of(on_it)
        if footage.clips and not DataLayout(name).index.is_file():
            room = estimates.room(footage, on_it.data, is_fetched=is_fetched)
            need += room.total
            parts.append(f"{footage.clips:,} clips {binary_bytes(room.total)}")
    states = _states(params)
    need += states
    parts.append(f"checkpoints {binary_bytes(states)}")
    free = shutil.disk_usage(Path.cwd()).free
    text = (
        f"{binary_bytes(free)} free; about {binary_bytes(need)} to be written ({', '.join(parts)})"
    )
    if free < need:
        remedy = "make room, or link data/, downloads/ and results/ to a larger disk"
        yield missing("disk", text, remedy, needed=True)
    else:
        yield ok("disk", text)


def footage_of(params: Params) -> tuple[estimates.Footage, bool]:
    """Return what the list holds, as far as it says, and whether it has to be fetched."""
    synthetic, path = params.data.synthetic, Path(params.data.manifest or "")
    if synthetic is not None:
        clips = synthetic.train + synthetic.val + synthetic.test
        seconds = synthetic.frames / synthetic.fps
        pixels_per_s = synthetic.size**2 * synthetic.fps
        bytes_per_s = pixels_per_s * estimates.BYTES_PER_PIXEL["h264"]
        return estimates.Footage(clips, seconds, synthetic.fps, 1.0, bytes_per_s), True
    if not path.is_file():
        return estimates.Footage(0), False
    counted = summarised(path)
    seconds = counted.seconds / counted.timed if counted.timed else estimates.SECONDS
    local = counted.kinds.get("path", 0)
    return estimates.Footage(counted.rows, seconds), local < counted.rows


def _states(params: Params) -> int:
    """Bytes of checkpoints of runs that are not done: those kept, and one being written."""
    experiment = ExperimentLayout(params.name)
    return sum(
        (run.trainer.keep_checkpoints + 1) * estimates.checkpoint_bytes(run, params.data.clip)
        for name, run in params.runs.items()
        if run.trainer.epochs and not experiment.run(name).pretrained.is_file()
    )
