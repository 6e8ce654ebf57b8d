"""`python -m pipeline segment --run NAME`: find objects in videos with one run's encoder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import EmbeddedMasks, MaskedData, Params
from pipeline.errors import UserError
from pipeline.evaluation.segmentation import folders, scores
from pipeline.evaluation.segmentation.scores import ClipScore, Score
from pipeline.evaluation.segmentation.sources import EmbeddedSource, FolderSource, Lost, Source
from pipeline.evaluation.segmentation.work import Outcome, Work, key_of
from pipeline.evaluation.weights import for_frames, verified_sha256
from pipeline.files import atomic_path, sha256_file, write_json
from pipeline.models import hub
from pipeline.provenance import provenance
from pipeline.shards.index import DatasetIndex

SCHEMA = pa.schema(
    [
        ("data", pa.string()),
        ("frames", pa.int32()),
        ("id", pa.string()),
        ("outcome", pa.string()),  # ok, or why the clip is not scored
        ("reason", pa.string()),
        ("classes", pa.int32()),
        ("clustering", pa.float64()),
        ("over_clustering", pa.float64()),
        ("one_segment", pa.float64()),
    ]
)


def run(params: Params, run: str) -> None:
    """Write `segmentation.parquet`, pictures and, last of all, `segmentation.json` of a run.

    Raises:
        UserError: where the data set or the run is not there yet, a folder of masks is missing, or
            a clip length is no multiple of the model's tubes.
    """
    began = time.monotonic()
    layout, settings = RunLayout(params.name, run), params.segmentation
    inputs = {"weights": verified_sha256(layout)}
    rows: list[Score] = []
    table: list[dict[str, Any]] = []
    drawn: list[dict[str, str]] = []
    skipped: list[dict[str, str]] = []
    census: dict[str, dict[str, int]] = {}
    for data in settings.data:
        opened = _open(params, data)
        if isinstance(opened, str):
            skipped.append({"data": data.name, "reason": opened})
            continue
        source, lost, inputs[data.name] = opened
        for frames in settings.frames:
            work = _work(params, layout, source, frames, inputs[data.name], inputs["weights"])
            found = [*lost, *work.score(layout.folder / "segmentation.partial.jsonl")]
            scored = [each for each in found if isinstance(each, ClipScore)]
            missing = [each for each in found if isinstance(each, Lost)]
            rows += scores.rows(data.name, data.kind, frames, scored, missing, settings)
            table += [_line(data.name, frames, each) for each in found]
            census[f"{data.name}, {frames} frames"] = _census(found)
            if frames == settings.frames[0]:
                folder = layout.segmentation_pictures / data.name
                for clip, path in work.draw([each.id for each in scored], folder):
                    file = path.relative_to(layout.folder).as_posix()
                    drawn.append({"data": data.name, "id": clip, "file": file})
    layout.segmentation_pictures.mkdir(exist_ok=True)  # DVC expects it, also where none was drawn
    with atomic_path(layout.segmented_clips) as temporary:
        pq.write_table(pa.Table.from_pylist(table, SCHEMA), temporary)
    write_json(
        layout.segmented,
        {
            "run": run,
            "scores": [row.model_dump(mode="json") for row in rows],
            "skipped": skipped,
            "census": census,
            "pictures": drawn,
            "inputs": inputs,
            "outputs": {"clips": sha256_file(layout.segmented_clips)},
            "settings": settings.model_dump(mode="json"),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    (layout.folder / "segmentation.partial.jsonl").unlink(missing_ok=True)
    for line in _summary(rows, skipped):
        print(f"[segment {run}] {line}")


def _open(params: Params, data: MaskedData) -> tuple[Source, list[Lost], str] | str:
    """Return a data set's clips, those that were lost before, and its hash; or why it cannot be."""
    if not isinstance(data, EmbeddedMasks):
        found = folders.videos(data)
        return FolderSource(data.name, found), [], folders.digest(found)
    if params.data.synthetic is None:
        return f"the masks of data set {params.data.name!r} are not known"
    files = DataLayout(params.data.name)
    index = DatasetIndex.load(files.shards)
    lost = {clip["id"]: clip for clip in index.lost if clip.get("split") == "test"}
    entries = {entry.id: entry for entry in index.clips(["test"])}
    if not entries:
        raise UserError("the test split has no clip", place=str(files.index))
    wanted = sorted(entries.keys() | lost.keys())[: data.clips]
    source = EmbeddedSource(
        data.name,
        [entries[clip] for clip in wanted if clip in entries],
        params.data.synthetic,
        params.data.clip.stride,
    )
    gone = [
        Lost(clip, lost[clip]["outcome"], lost[clip]["reason"]) for clip in wanted if clip in lost
    ]
    return source, gone, sha256_file(files.index)


def _work(
    params: Params, layout: RunLayout, source: Source, frames: int, data: str, weights: str
) -> Work:
    encoder = hub.load(layout.weights).encoder
    clip, trainer = params.data.clip, params.runs[layout.run].trainer
    trained = encoder.grid.clip_shape[1]
    if trained != clip.size:
        raise UserError(
            f"the model takes clips of {trained} x {trained}, data.clip has {clip.size}",
            place=str(layout.weights),
            remedy=f"python -m pipeline pretrain --run {layout.run}",
        )
    return Work(
        source,
        for_frames(encoder, frames),
        clip,
        params.segmentation,
        key_of(
            params.segmentation,
            name=source.name,
            data=data,
            weights=weights,
            frames=frames,
            clip=clip.model_dump(mode="json"),
            code=stages.code_sha256("segment"),
        ),
        label=f"segment {layout.run}: {source.name}, {frames} frames",
        threads=trainer.threads,
        workers=trainer.workers,
    )


def _census(found: Sequence[Outcome]) -> dict[str, int]:
    """Count outcomes, `ok` first."""
    counts = Counter("ok" if isinstance(each, ClipScore) else each.outcome for each in found)
    return dict(sorted(counts.items(), key=lambda item: (item[0] != "ok", item[0])))


def _line(data: str, frames: int, outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"data": data, "frames": frames, "outcome": "ok", "reason": ""}
    if isinstance(outcome, ClipScore):
        return line | outcome.model_dump()
    return line | {"id": outcome.id, "outcome": outcome.outcome, "reason": outcome.reason}


def _summary(rows: Sequence[Score], skipped: Sequence[dict[str, str]]) -> Iterator[str]:
    for row in rows:
        name = row.protocol.replace("_", "-")
        what = f"{row.data}, {row.frames} frames, {name}"
        if row.miou is None or row.one_segment is None:
            yield f"{what}: none of {row.of:,} clips could be scored"
            continue
        error = "" if row.standard_error is None else f" ± {100 * row.standard_error:.1f}"
        yield (
            f"{what}: mIoU {100 * row.miou:.1f}{error} on {row.scored:,} of {row.of:,} clips "
            f"(all one segment: {100 * row.one_segment:.1f})"
        )
    for note in skipped:
        yield f"{note['data']}: skipped: {note['reason']}"
