"""What a benchmark finds on its data sets, one after the other, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.benchmark import Job, Outcome
from pipeline.runtime.files import atomic_path


class Named(Protocol):
    """Settings of a data set."""

    @property
    def name(self) -> str:
        """What the table calls it."""


Data = TypeVar("Data", bound=Named)
Source = TypeVar("Source")


@dataclass
class Findings:
    """Scores, a row per clip, pictures and a census of each data set of one run's benchmark."""

    job: Job
    benchmark: str  # its name
    scores: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the table beside the scores
    census: dict[str, dict[str, int]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)  # a digest of each data set
    pictures: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the folder of pictures: DVC expects it, also where none is drawn."""
        self.job.layout.work(self.benchmark).mkdir(exist_ok=True)

    @property
    def unfinished(self) -> Path:
        """Where an interrupted job keeps what is done."""
        return self.job.layout.result(self.benchmark).with_suffix(".partial")

    def folder(self, data: str) -> Path:
        """Where the pictures of a data set are drawn."""
        return self.job.layout.work(self.benchmark) / data

    def opened(
        self, data: Iterable[Data], open_source: Callable[[Data], Source | str]
    ) -> Iterator[tuple[Data, Source]]:
        """Yield each data set with what it holds; note why another has no scores."""
        for each in data:
            source = open_source(each)
            if isinstance(source, str):
                self.skipped.append({"data": each.name, "reason": source})
            else:
                yield each, source

    def add_pictures(self, data: str, drawn: Iterable[tuple[str, Path]]) -> None:
        """Note pictures: names of what they show, and files below the run's folder of scores."""
        for name, path in drawn:
            file = path.relative_to(self.job.layout.scores_folder).as_posix()
            self.pictures.append({"data": data, "id": name, "file": file})

    def outcome(
        self,
        table: str,
        schema: pa.Schema,
        sentence: Callable[[Mapping[str, Any]], str | None],
        further: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Write the rows; return everything, with a sentence to print of each score.

        `table` is what the file of rows is called, `further` are more fields of the result.
        """
        file = self.job.layout.rows(self.benchmark)
        with atomic_path(file) as temporary:
            pq.write_table(pa.Table.from_pylist(self.rows, schema), temporary)
        fields = {
            "scores": self.scores,
            "skipped": self.skipped,
            "census": self.census,
            "pictures": self.pictures,
            **(further or {}),
        }
        sentences = [line for score in self.scores if (line := sentence(score)) is not None]
        reasons = [f"{note['data']}: skipped: {note['reason']}" for note in self.skipped]
        summary = (*sentences, *reasons)
        return Outcome(fields, self.inputs, {table: file}, summary, (self.unfinished,))
