"""`python -m pipeline severe --run NAME`: Benchmark III on one run's encoder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.severe import columns
from pipeline.evaluation.severe.answered import Answered
from pipeline.evaluation.weights import verified_sha256
from pipeline.runtime.files import atomic_path, remove_leftovers, sha256_file, write_json
from pipeline.runtime.provenance import provenance

if TYPE_CHECKING:
    from pipeline.evaluation.severe.scores import Score

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("true", pa.string()),  # the class, the classes between semicolons, or the count
        ("scores", pa.list_(pa.float64())),  # of the classes in their order, or the count
    ]
)


def run(params: Params, run: str) -> None:
    """Write `severe.parquet` and, last of all, `severe.json` of a run.

    Raises:
        UserError: where the run or a task's data set is not there yet, or a task does not fit it.
    """
    began = time.monotonic()
    layout, settings = RunLayout(params.name, run), params.severe
    remove_leftovers(layout.severe, layout.severe_clips, layout.severe_work)
    weights = verified_sha256(layout)
    found = _answered(params, layout, weights)
    rows = [each.score for each in found.done]
    mean = columns.mean({row.column: row.value for row in rows})
    with atomic_path(layout.severe_clips) as temporary:
        table = [line for each in found.done for line in each.lines]
        pq.write_table(pa.Table.from_pylist(table, SCHEMA), temporary)
    write_json(
        layout.severe,
        {
            "run": run,
            "scores": [row.model_dump(mode="json") for row in rows],
            "mean": mean,  # in per cent; null unless there are all eight columns
            "skipped": found.skipped,
            "classes": {each.score.task: list(each.classes) for each in found.done},
            "census": found.census,
            "inputs": {"weights": weights, **found.inputs},
            "outputs": {"clips": sha256_file(layout.severe_clips)},
            "settings": settings.model_dump(mode="json"),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    shutil.rmtree(layout.severe_work, ignore_errors=True)
    for line in _summary(rows, mean, found.skipped):
        print(f"[severe {run}] {line}")


def _answered(params: Params, layout: RunLayout, weights: str) -> Answered:
    if not params.severe.tasks:
        return Answered()
    from pipeline.evaluation.severe import tasks  # late: torch and scikit-learn take seconds

    return tasks.answer_all(params, layout, weights)


def _summary(
    rows: Sequence[Score], mean: float | None, skipped: Sequence[dict[str, str]]
) -> Iterator[str]:
    for row in rows:
        title = columns.COLUMNS[row.column].title
        what = f"{row.axis}, {row.task} (column {title})"
        value, constant = (
            (f"error {row.value:.3f}", f"{row.constant:.3f}")
            if row.metric == "relative_error"
            else (f"{row.metric} {100 * row.value:.1f}", f"{100 * row.constant:.1f}")
        )
        yield (
            f"{what}: {value} on {row.scored:,} of {row.of:,} clips, learned from "
            f"{row.train_clips:,} (constant answer: {constant})"
        )
    for note in skipped:
        yield f"{note['task']}: skipped: {note['reason']}"
    if mean is not None:
        yield f"mean of the eight columns: {mean:.1f}"
    elif rows:
        yield f"no mean: {len(rows)} of {len(columns.COLUMNS)} columns"
