"""`python -m pipeline severe --run NAME`: Benchmark III on one run's encoder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import DrawnClips, FrozenHeads, Params, SevereTask, Views
from pipeline.errors import UserError
from pipeline.evaluation import features
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.rows import How
from pipeline.evaluation.severe import columns, drawn, finetuned, frozen, problem
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem
from pipeline.evaluation.severe.scores import Score, lines, score
from pipeline.evaluation.weights import check_clip, verified_sha256
from pipeline.files import atomic_path, read_json, sha256_file, write_json
from pipeline.models import hub
from pipeline.provenance import provenance
from pipeline.shards.index import DatasetIndex

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("true", pa.string()),  # the class, the classes between semicolons, or the count
        ("scores", pa.list_(pa.float64())),  # of the classes in their order, or the count
    ]
)


@dataclass(frozen=True)
class Done:
    """A task's row, a line per test clip, and the names of the columns of these lines' scores."""

    score: Score
    lines: Sequence[dict[str, Any]]
    classes: Sequence[str]


def run(params: Params, run: str) -> None:
    """Write `severe.parquet` and, last of all, `severe.json` of a run.

    A task that is done is kept beside them until all are: an interrupted call goes on with the
    next one, and within it from its features or its checkpoint.

    Raises:
        UserError: where the run or a task's data set is not there yet, or a task does not fit it.
    """
    began = time.monotonic()
    layout, settings = RunLayout(params.name, run), params.severe
    inputs: dict[str, str] = {"weights": verified_sha256(layout)}
    check_clip(layout, params.data.clip)
    done: list[Done] = []
    skipped: list[dict[str, str]] = []
    census: dict[str, dict[str, int]] = {}
    for task in settings.tasks:
        index = _index(params, task)
        asked = index if isinstance(index, str) else problem.build(task, index)
        if isinstance(index, str) or isinstance(asked, str):
            skipped.append({"task": task.name, "column": task.column, "reason": str(asked)})
            continue
        inputs[task.name] = sha256_file(index.folder / "index.json")
        census[task.name] = index.census
        key = _key(params, task, inputs)
        found = _kept(layout, task, key)
        if found is None:
            answers = _answer(params, layout, asked, key)
            found = Done(score(asked, index.name, answers), lines(asked, answers), asked.classes)
            _keep(layout, task, key, found)
        done.append(found)
    mean = columns.mean({each.score.column: each.score.value for each in done})
    with atomic_path(layout.severe_clips) as temporary:
        table = [line for each in done for line in each.lines]
        pq.write_table(pa.Table.from_pylist(table, SCHEMA), temporary)
    write_json(
        layout.severe,
        {
            "run": run,
            "scores": [each.score.model_dump(mode="json") for each in done],
            "mean": mean,  # in per cent; null unless there are all eight columns
            "skipped": skipped,
            "classes": {each.score.task: list(each.classes) for each in done},
            "census": census,
            "inputs": inputs,
            "outputs": {"clips": sha256_file(layout.severe_clips)},
            "settings": settings.model_dump(mode="json"),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    shutil.rmtree(layout.severe_work, ignore_errors=True)
    for line in _summary([each.score for each in done], mean, skipped):
        print(f"[severe {run}] {line}")


def _index(params: Params, task: SevereTask) -> DatasetIndex | str:
    """Return the task's data set, or the reason why there is none."""
    if not isinstance(task.clips, DrawnClips):
        name = task.clips.data or params.data.name
        files = DataLayout(name)
        if not files.index.is_file():
            raise UserError(
                f"task {task.name!r} needs data set {name!r}, of which there are no shards",
                place=str(files.index),
                remedy="docs/severe.md says how to make them; or take the task out of severe.tasks",
            )
        return DatasetIndex.load(files.shards)
    if params.data.synthetic is None:
        return "drawn for the embedded data set alone (data.synthetic)"
    return drawn.data_set(
        params.data.name,
        task.clips.variant,
        params.data.synthetic,
        params.data.clip,
        params.severe.drawn,
    )


def _answer(params: Params, layout: RunLayout, asked: Problem, key: dict[str, Any]) -> Answers:
    method, trainer = params.severe.method, params.runs[layout.run].trainer
    folder, label = layout.severe_work / asked.task.name, f"severe {layout.run}: {asked.task.name}"
    if not isinstance(method, FrozenHeads):
        return finetuned.answer(
            asked,
            layout.weights,
            params.data.clip,
            method,
            trainer,
            folder=folder,
            key=key,
            label=label,
        )
    view = Views(segments=1, crops=1, sampling=asked.task.sampling)
    found = features.extract(
        hub.load(layout.weights).encoder,
        {
            "train": VideoClips(asked.train.entries, params.data.clip, view),
            "test": VideoClips(asked.test.entries, params.data.clip, view),
        },
        path=folder / "features.npz",
        key=key,
        how=How(method.batch_size, workers=trainer.workers, threads=trainer.threads, label=label),
    )
    with threadpool_limits(trainer.threads):  # NumPy would take all cores, also other jobs'
        train, test = (_pooled(found[split].values) for split in ("train", "test"))
        return frozen.answer(asked, train, test, method)


def _pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over views: (n, V, D) to (n, D)."""
    return np.asarray(values.mean(axis=1), dtype=np.float32)


def _key(params: Params, task: SevereTask, inputs: dict[str, str]) -> dict[str, Any]:
    return {
        "task": task.model_dump(mode="json"),
        "method": params.severe.method.model_dump(mode="json"),
        "clip": params.data.clip.model_dump(mode="json"),
        "weights": inputs["weights"],
        "index": inputs[task.name],
        "code": stages.code_sha256("severe"),
    }


def _kept(layout: RunLayout, task: SevereTask, key: dict[str, Any]) -> Done | None:
    """Return what an interrupted call has kept of a task; None where that is another's."""
    try:
        body = read_json(layout.severe_work / f"{task.name}.json")
        if body["key"] != key:
            return None
        return Done(Score.model_validate(body["score"]), body["lines"], body["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(layout: RunLayout, task: SevereTask, key: dict[str, Any], found: Done) -> None:
    write_json(
        layout.severe_work / f"{task.name}.json",
        {
            "key": key,
            "score": found.score.model_dump(mode="json"),
            "lines": list(found.lines),
            "classes": list(found.classes),
        },
    )
    shutil.rmtree(layout.severe_work / task.name, ignore_errors=True)


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
