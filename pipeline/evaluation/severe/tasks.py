"""The tasks of Benchmark III, one after the other, for one run's encoder."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout, RunLayout
from pipeline.configuration.schema import DrawnClips, FrozenHeads, Params, SevereTask, Views
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import features
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.encoder import check_clip
from pipeline.evaluation.rows import How
from pipeline.evaluation.severe import drawn, finetuned, frozen, problem
from pipeline.evaluation.severe.answered import Answered, Done
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem
from pipeline.evaluation.severe.scores import Score, lines, score
from pipeline.runtime.files import read_json, sha256_file, write_json
from pipeline.weights import hub


def answer_all(params: Params, layout: RunLayout, weights: str) -> Answered:
    """Answer every task; `weights` is the hash of the run's weights.

    A task that is done is kept in the run's folder: an interrupted call goes on with the next one,
    and within it from its features or its checkpoint.

    Raises:
        UserError: where a task's data set is not there yet, or a task or the clip does not fit.
    """
    check_clip(layout, params.data.clip)
    found = Answered()
    for task in params.severe.tasks:
        index = _index(params, task)
        asked = index if isinstance(index, str) else problem.build(task, index)
        if isinstance(index, str) or isinstance(asked, str):
            reason = {"task": task.name, "column": task.column, "reason": str(asked)}
            found.skipped.append(reason)
            continue
        found.inputs[task.name] = sha256_file(index.folder / "index.json")
        found.census[task.name] = index.census
        key = _key(params, task, weights, found.inputs[task.name])
        done = _kept(layout, task, key)
        if done is None:
            answers = _answer(params, layout, asked, key)
            done = Done(score(asked, index.name, answers), lines(asked, answers), asked.classes)
            _keep(layout, task, key, done)
        found.done.append(done)
    return found


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


def _key(params: Params, task: SevereTask, weights: str, index: str) -> dict[str, Any]:
    return {
        "task": task.model_dump(mode="json"),
        "method": params.severe.method.model_dump(mode="json"),
        "clip": params.data.clip.model_dump(mode="json"),
        "weights": weights,
        "index": index,
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
