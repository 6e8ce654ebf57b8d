"""The embedded data's tasks as small data sets in shards, drawn once and shared by all runs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Clip, DrawnSize, Synthetic
from pipeline.configuration.stages import modules_sha256
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import format, writer
from pipeline.data.shards.encode import Member
from pipeline.data.shards.index import DatasetIndex
from pipeline.data.synthetic import tasks
from pipeline.runtime.files import read_json, write_json

CODEC = "raw"  # the pixels as they are drawn; encoding would take ten times as long as drawing


def data_set(
    data: str, variant: str, settings: Synthetic, clip: Clip, size: DrawnSize
) -> DatasetIndex:
    """Return a task's data set; it is drawn where there is none of these settings and this code.

    The folder's name is a hash of all that the clips depend on, and the folder appears whole: so
    runs that evaluate at the same time may both draw it, and one of them is kept.
    """
    view = tasks.View(clip.frames, clip.stride)
    body = {
        "settings": settings.model_dump(mode="json", exclude={"train", "val", "test"}),
        "view": asdict(view),
        "size": size.model_dump(mode="json"),
        "code": modules_sha256("pipeline.data.synthetic.tasks", __name__),
    }
    key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    folder = DataLayout(data).derived / "severe" / key / variant
    if not (folder / "index.json").is_file():
        drawing = folder.with_name(f".{variant}.{uuid.uuid4().hex[:8]}")
        try:
            _draw(drawing, variant, settings, view, size)
            drawing.rename(folder)
        except OSError:
            if not (folder / "index.json").is_file():  # another run was quicker
                raise
        finally:
            shutil.rmtree(drawing, ignore_errors=True)
    return DatasetIndex.load(folder)


def _draw(
    folder: Path, variant: str, settings: Synthetic, view: tasks.View, size: DrawnSize
) -> None:
    shards = []
    for split in ("train", "test"):
        with writer.open_shard(folder, split, 0, 0, CODEC) as shard:
            for index in range(getattr(size, split)):
                clip = tasks.render(variant, settings, view, split, index)
                frames, height, width = clip.frames.shape[:3]
                record = ClipRecord(
                    id=f"{split}-{index:05d}",
                    outcome=Outcome.OK,
                    frames=frames,
                    fps=settings.fps,
                    width=width,
                    height=height,
                    split=split,
                    labels=clip.labels,
                )
                shard.add(record, [Member.of("npy", _npy(clip.frames))])
        shards.append(read_json(format.summary_file(shard.path)))
    write_json(
        folder / "index.json",
        {
            "name": variant,
            "codec": CODEC,
            "shards": shards,
            "census": {Outcome.OK.value: size.train + size.test},
            "splits": {"train": size.train, "test": size.test},
            "lost": [],
        },
    )


def _npy(frames: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, frames, version=(1, 0), allow_pickle=False)
    return file.getvalue()
