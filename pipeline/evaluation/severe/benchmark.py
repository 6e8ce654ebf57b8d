"""Benchmark III, SEVERE, as the rest of the pipeline knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.configuration.layout import DataLayout
from pipeline.evaluation.benchmark import Benchmark, Requirement
from pipeline.evaluation.severe.settings import Severe as Settings

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params


class Severe(Benchmark):
    """How far an encoder carries from the data and the task that it is used to."""

    name = section = stage = "severe"
    done = "generalised"
    title = "SEVERE"
    summary = "try one run's encoder away from its data and task"
    settings = Settings
    module = "pipeline.evaluation.severe.run"
    table = "pipeline.evaluation.severe.table"
    reads = ("data.synthetic", "evaluation.test")
    outputs = ("severe.parquet",)
    metric = "{task}"
    measures = ("value",)
    card = ("column", "data", "metric", "value", "score", "scored", "of")

    def of(self, params: Params) -> Settings:
        """Return its settings."""
        return params.severe

    def fitting(self, params: Params) -> Settings:
        """Return its settings without tasks whose clips there are not.

        They are those of the embedded data where the data is another one, and those that are scored
        on a test split under `evaluation.test=false`.
        """
        settings, test = params.severe, params.evaluation.test
        drawn = params.data.synthetic is not None and test
        embedded = not drawn and any(task.clips.kind == "drawn" for task in settings.tasks)
        kept = tuple(
            task
            for task in settings.tasks
            if not (embedded and task.clips.of_the_experiment)
            and (test or "test" not in task.clips.splits)
        )
        return settings.model_copy(update={"tasks": kept})

    def left_out(self, asked: Settings, fitting: Settings) -> list[str]:
        """Name the tasks that cannot be asked."""
        return [task.name for task in asked.tasks if task not in fitting.tasks]

    def has_work(self, params: Params) -> bool:
        """Whether there is a task."""
        return bool(params.severe.tasks)

    def inputs(self, params: Params) -> list[Path]:
        """Return the indexes of the data sets that tasks are taken from."""
        return [DataLayout(name).index for name in params.severe.other_data]

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """Data sets that tasks are taken from: each has to be made by an experiment of its own."""
        for name in params.severe.other_data:
            remedy = f"make it first: compose with data={name}, snakemake data (docs/severe.md)"
            yield Requirement(name, DataLayout(name).index, remedy)
        if params.severe.tasks and not params.severe.other_data:
            note = f"{len(params.severe.tasks)}, on data that is here or drawn"
            yield Requirement("tasks", None, note=note)
