"""The tasks of Benchmark III, one after the other, for one run's encoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import (
    DrawnClips,
    FinetunedEncoder,
    FrozenHeads,
    Params,
    SevereTask,
    Views,
)
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import features
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.encoder import check_clip
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.evaluation.severe import columns, drawn, finetuned, frozen, problem
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem
from pipeline.evaluation.severe.scores import Score, lines
from pipeline.evaluation.severe.scores import score as score_of
from pipeline.method.pooling import Pooled
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.devices import prepare_deterministic
from pipeline.runtime.files import atomic_path, sha256_file
from pipeline.runtime.store import Store
from pipeline.weights import hub

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("id", pa.string()),
        ("true", pa.string()),  # the class, the classes between semicolons, or the count
        ("scores", pa.list_(pa.float64())),  # of the classes in their order, or the count
    ]
)


@dataclass(frozen=True)
class TaskResult:
    """A task's row, a line per test clip, and the names of the columns of these lines' scores."""

    score: Score
    lines: Sequence[dict[str, Any]]
    classes: Sequence[str]


def score(job: Job) -> Outcome:
    """Answer every task; write a row per test clip and task.

    A task that is done is kept in the run's folder: an interrupted job goes on with the next one,
    and within it from its features or its checkpoint.

    Raises:
        UserError: where a task's data set is not there yet, or a task or the clip does not fit.
        ResumeLater: after SIGTERM or SIGUSR1, once what is done is kept.
    """
    params, layout = job.params, job.layout
    if isinstance(params.severe.method, FinetunedEncoder):
        prepare_deterministic(params.severe.method.deterministic)
    check_clip(layout, params.data.clip)
    results: list[TaskResult] = []
    skipped: list[dict[str, str]] = []
    census: dict[str, dict[str, int]] = {}
    inputs: dict[str, str] = {}
    for task in params.severe.tasks:
        index = _index(params, task)
        asked = index if isinstance(index, str) else problem.build(task, index)
        if isinstance(index, str) or isinstance(asked, str):
            skipped.append({"task": task.name, "column": task.column, "reason": str(asked)})
            continue
        inputs[task.name] = sha256_file(index.folder / "index.json")
        census[task.name] = index.census
        key = _key(params, task, job.weights, inputs[task.name])
        results.append(_result(params, layout, asked, index.name, key))
    rows = [each.score for each in results]
    mean = columns.mean({row.column: row.value for row in rows})
    table = layout.rows("severe")
    with atomic_path(table) as temporary:
        lines = [line for each in results for line in each.lines]
        pq.write_table(pa.Table.from_pylist(lines, SCHEMA), temporary)
    fields = {
        "scores": [row.model_dump(mode="json") for row in rows],
        "mean": mean,  # in per cent; null unless there are all eight columns
        "skipped": skipped,
        "classes": {each.score.task: list(each.classes) for each in results},
        "census": census,
    }
    summary = tuple(_summary(rows, mean, skipped))
    return Outcome(fields, inputs, {"clips": table}, summary, (layout.work("severe"),))


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


def _result(
    params: Params, layout: RunLayout, asked: Problem, data: str, key: dict[str, Any]
) -> TaskResult:
    """Answer one task, or take up what an interrupted call has kept of it."""
    work = layout.work("severe")
    store = Store(work / "results" / asked.task.name, key)
    if kept := store.get("result"):
        return TaskResult(Score.model_validate(kept["score"]), kept["lines"], kept["classes"])
    label = f"severe {layout.run}: {asked.task.name}"
    resumption = Resumption(work / asked.task.name, key, label)
    answers = _answers(params, layout, asked, resumption)
    result = TaskResult(score_of(asked, data, answers), lines(asked, answers), asked.classes)
    with store.writing():
        row = result.score.model_dump(mode="json")
        store.add("result", score=row, lines=result.lines, classes=result.classes)
    shutil.rmtree(resumption.folder, ignore_errors=True)
    return result


def _answers(params: Params, layout: RunLayout, asked: Problem, resumption: Resumption) -> Answers:
    method, trainer = params.severe.method, params.runs[layout.run].trainer
    options = ExecutionOptions(
        method.batch_size,
        workers=trainer.workers,
        threads=trainer.threads,
        label=resumption.label,
    )
    if not isinstance(method, FrozenHeads):
        clip = params.data.clip
        return finetuned.answer(asked, layout.weights, clip, method, resumption, options)
    view = Views(segments=1, crops=1, sampling=asked.task.sampling)
    extracted = features.extract(
        Pooled(hub.load(layout.weights).encoder),
        {
            "train": VideoClips(asked.train.entries, params.data.clip, view),
            "test": VideoClips(asked.test.entries, params.data.clip, view),
        },
        path=resumption.folder / "features.npz",
        key=resumption.settings,
        options=options,
    )
    with threadpool_limits(trainer.threads):  # NumPy would take all cores, also other jobs'
        train, test = (_pooled(extracted[split].values) for split in ("train", "test"))
        return frozen.answer(asked, train, test, method)


def _pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over views: (n, V, D) to (n, D)."""
    return np.asarray(values.mean(axis=1), dtype=np.float32)


def _key(params: Params, task: SevereTask, weights: str, index: str) -> dict[str, Any]:
    return {
        "task": task.model_dump(mode="json"),
        "method": params.severe.method.model_dump(mode="json"),
        "clip": params.data.clip.model_dump(mode="json"),
        "weights": weights,
        "index": index,
        "code": stages.code_sha256("severe"),
    }


def _summary(
    rows: Sequence[Score], mean: float | None, skipped: Sequence[Mapping[str, str]]
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
