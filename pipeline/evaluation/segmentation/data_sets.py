"""The data sets of Benchmark II, one after the other, for one run's encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import EmbeddedMasks, MaskedData, Params
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.encoder import for_frames
from pipeline.evaluation.segmentation import folders, scores
from pipeline.evaluation.segmentation.scores import ClipScore
from pipeline.evaluation.segmentation.segmented import Segmented
from pipeline.evaluation.segmentation.sources import EmbeddedSource, FolderSource, Lost, Source
from pipeline.evaluation.segmentation.work import Outcome, Work, key_of
from pipeline.runtime.files import sha256_file
from pipeline.weights import hub


def segment_all(params: Params, layout: RunLayout, weights: str) -> Segmented:
    """Score, and draw, every data set at every length; `weights` is the hash of the run's weights.

    Raises:
        UserError: where a data set is not there yet, a folder of masks is missing, or a clip length
            is no multiple of the model's tubes.
    """
    made, settings = Segmented(), params.segmentation
    for data in settings.data:
        opened = _open(params, data)
        if isinstance(opened, str):
            made.skipped.append({"data": data.name, "reason": opened})
            continue
        source, lost, made.inputs[data.name] = opened
        for frames in settings.frames:
            work = _work(params, layout, source, frames, made.inputs[data.name], weights)
            found = [*lost, *work.score(layout.segmentation_journal)]
            scored = [each for each in found if isinstance(each, ClipScore)]
            missing = [each for each in found if isinstance(each, Lost)]
            made.rows += scores.rows(data.name, data.kind, frames, scored, missing, settings)
            made.clips += [_line(data.name, frames, each) for each in found]
            made.census[f"{data.name}, {frames} frames"] = _census(found)
            if frames == settings.frames[0]:
                folder = layout.segmentation_pictures / data.name
                for clip, path in work.draw([each.id for each in scored], folder):
                    file = path.relative_to(layout.folder).as_posix()
                    made.pictures.append({"data": data.name, "id": clip, "file": file})
    return made


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
