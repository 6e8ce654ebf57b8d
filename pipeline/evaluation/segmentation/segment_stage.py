"""`python -m pipeline segment --run NAME`: find objects in videos with one run's encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.segmentation.segmented import Segmented
from pipeline.evaluation.weights import verified_sha256
from pipeline.runtime.files import atomic_path, remove_leftovers, sha256_file, write_json
from pipeline.runtime.provenance import provenance

if TYPE_CHECKING:
    from pipeline.evaluation.segmentation.scores import Score

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
    layout = RunLayout(params.name, run)
    remove_leftovers(layout.segmented, layout.segmented_clips, layout.segmentation_pictures)
    weights = verified_sha256(layout)
    found = _segmented(params, layout, weights)
    layout.segmentation_pictures.mkdir(exist_ok=True)  # DVC expects it, also where none was drawn
    with atomic_path(layout.segmented_clips) as temporary:
        pq.write_table(pa.Table.from_pylist(found.clips, SCHEMA), temporary)
    write_json(
        layout.segmented,
        {
            "run": run,
            "scores": [row.model_dump(mode="json") for row in found.rows],
            "skipped": found.skipped,
            "census": found.census,
            "pictures": found.pictures,
            "inputs": {"weights": weights, **found.inputs},
            "outputs": {"clips": sha256_file(layout.segmented_clips)},
            "settings": params.segmentation.model_dump(mode="json"),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    layout.segmentation_journal.unlink(missing_ok=True)
    for line in _summary(found.rows, found.skipped):
        print(f"[segment {run}] {line}")


def _segmented(params: Params, layout: RunLayout, weights: str) -> Segmented:
    if not params.segmentation.data:
        return Segmented()
    from pipeline.evaluation.segmentation import data_sets  # late: torch and others take seconds

    return data_sets.segment_all(params, layout, weights)


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
