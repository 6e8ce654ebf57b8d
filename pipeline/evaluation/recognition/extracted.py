"""What recognition has extracted of a run's encoder, for the benchmarks that ask for more of it.

They decode no clip a second time. They begin when recognition is done (`Benchmark.after`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Evaluation
from pipeline.data.shards.clip_table import labels_of
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation import features
from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.metrics import missing
from pipeline.evaluation.recognition import task
from pipeline.evaluation.recognition.task import Task
from pipeline.runtime.files import read_json, sha256_file

Skipped = dict[str, str]  # what was not scored: its `label`, and the `reason`


def skipped(label: str, reason: str) -> Skipped:
    return {"label": label, "reason": reason}


@dataclass(frozen=True)
class Extracted:
    """The features of all clips, their labels, and the split that is scored."""

    features: Mapping[str, SplitFeatures]  # by split
    labels: Mapping[str, Mapping[str, str]]  # by clip, then by column
    lost: Mapping[str, str]  # the split of every clip that the data set has lost, by id
    split: str  # test, or val where test is left alone
    inputs: Mapping[str, str]  # SHA-256 of the index and of the features
    key: str  # what the features depend on, as JSON

    def tasks(self, columns: tuple[str, ...]) -> tuple[dict[str, Task], list[Skipped]]:
        """Return the task of each label, and the labels that have none."""
        if not columns:
            return {}, [skipped("all", "the data set has no labels (data.labels)")]
        built = {
            label: task.build(label, self.labels, self.features, self.split) for label in columns
        }
        tasks = {label: each for label, each in built.items() if not isinstance(each, str)}
        return tasks, [
            skipped(label, each) for label, each in built.items() if isinstance(each, str)
        ]

    def census(self, asked: Task) -> dict[str, Any]:
        """Count the clips of the scored split: those that are asked, lost, and without the label.

        `of` = `scored` + `missing_clips` + `unlabelled_clips`, as in a score of recognition.
        """
        lost = task.missing(self.split, self.lost, self.features)
        unlabelled = asked.unlabelled.get(self.split, 0)
        return {
            "train_clips": len(asked.train.ids),
            "scored": len(asked.test.ids),
            "of": len(asked.test.ids) + len(lost) + unlabelled,
            **missing(lost),
            "unlabelled_clips": unlabelled,
        }

    def outcome(
        self,
        scores: Sequence[Mapping[str, Any]],
        notes: Sequence[Skipped],
        sentence: Callable[[Mapping[str, Any]], str],
        **written: Path,
    ) -> Outcome:
        """Return scores and what was skipped, with a line to print of each; and files `written`."""
        lines = [f"{note['label']}: skipped: {note['reason']}" for note in notes]
        fields = {"scores": scores, "skipped": notes}
        return Outcome(fields, self.inputs, written, (*map(sentence, scores), *lines))


def read(job: Job) -> Extracted:
    """Read the features that the run's recognition has written.

    Raises:
        UserError: where there are none, or they are of other weights or another data set.
    """
    layout, data = job.layout, DataLayout(job.params.data.name)
    index = DatasetIndex.load(data.shards)
    inputs = {"index": sha256_file(data.index)}
    place, remedy = (
        str(layout.result("evaluation")),
        f"python -m pipeline evaluate {layout.options}",
    )
    try:
        body = read_json(layout.result("evaluation"))
        of, written = body["inputs"], body["outputs"]["features"]
        values, key = features.read(layout.features)
        inputs["features"] = sha256_file(layout.features)
    except FileNotFoundError as error:
        problem = f"run {layout.run!r} has no features of recognition"
        raise UserError(problem, place=str(error.filename), remedy=remedy) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        problem = f"the features of recognition cannot be read: {error!r}"
        raise UserError(problem, place=place, remedy=remedy) from None
    expected = {"weights": job.weights, "index": inputs["index"]}
    if written != inputs["features"] or expected.items() - of.items():
        problem = "these features are of other weights, or of another version of the data set"
        raise UserError(problem, place=place, remedy=remedy)
    return Extracted(
        values,
        labels_of(index.clips(sorted(values))),
        lost_clips(data, index),
        scored_split(job.params.evaluation),
        inputs,
        key,
    )


def lost_clips(data: DataLayout, index: DatasetIndex) -> dict[str, str]:
    """Return the split of every clip that the data set has lost, by id."""
    try:
        return {clip["id"]: clip["split"] for clip in index.lost}
    except KeyError:
        raise UserError(
            "the index does not say of which splits the lost clips were",
            place=str(data.index),
            remedy="python -m pipeline index",
        ) from None


def scored_split(settings: Evaluation) -> str:
    """Return the split whose scores are the run's."""
    return "test" if settings.test else "val"
