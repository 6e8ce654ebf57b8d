"""What a benchmark is: a name, settings, code that scores an encoder, and what is shown of it.

Commands, rules, DVC's stages, paths, trace, doctor, report and model card go through the registered
ones (`pipeline.evaluation.registry`). The declaration imports nothing heavy: it is read wherever
the configuration is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.section import RunName, Section

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params

Body = Mapping[str, Any]  # of the JSON file that a benchmark's stage writes


class BenchmarkSettings(Section):
    """What the settings of every benchmark hold."""

    # the runs that it scores; null: all of them. Of one that it does not score there is no job
    runs: tuple[RunName, ...] | None = None


@dataclass(frozen=True)
class Job:
    """One encoder to score; `weights` is the SHA-256 of its file."""

    params: Params  # what the stage reads of them
    layout: RunLayout
    weights: str


@dataclass(frozen=True)
class Outcome:
    """What came of a job. `fields` go into the stage's JSON file, `scores` among them."""

    fields: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of what was read, by name
    outputs: Mapping[str, Path] = field(default_factory=dict)  # files written beside it, by name
    summary: tuple[str, ...] = ()  # lines to print
    leftovers: tuple[Path, ...] = ()  # kept for an interrupted job, of no use once it is done


@dataclass(frozen=True)
class Requirement:
    """Something that a benchmark needs: a path that has to be there, or what is there anyway."""

    subject: str
    path: Path | None
    remedy: str = ""
    note: str = ""  # without a path: what is there


class Benchmark(Protocol):
    """A way to score encoders. The methods with a body are what most benchmarks do."""

    name: str  # of its settings and of its results: results/EXPERIMENT/runs/RUN/NAME.json
    stage: str  # its command, rule and stage of DVC
    done: str  # Snakemake's target: the stage for all runs
    title: str  # in a sentence
    summary: str  # what its stage does
    settings: type[Section]
    # has `score(job: Job) -> Outcome`; imported where the stage runs. Its code decides the result
    module: str
    # has `table(bodies: Mapping[str, Body]) -> Table | None`, of the runs' JSON files by run (None
    # without a score): the report's table; imported where the report is made
    table: str | None = None
    reads: tuple[str, ...] = ()  # keys of params.yaml beside its settings and what all read
    after: tuple[str, ...] = ()  # benchmarks whose results of the same run it reads
    outputs: tuple[str, ...] = ()  # what it writes into the run's folder beside its JSON file
    plots: ClassVar[Mapping[str, Mapping[str, str]]] = {}  # of them, what DVC plots, and how
    # fields of a score that metrics.json holds, and their name there, of other fields and `measure`
    measures: tuple[str, ...] = ()
    metric: str = "{measure}"
    card: tuple[str, ...] = ()  # keys of a score that a model card shows
    on_further_data: bool = False  # it asks for labelled clips alone, so any data set will do
    pictured: tuple[str, str] = ("", "")  # heading and text of the pictures that it draws

    @property
    def section(self) -> str:
        """The key of its settings in params.yaml."""
        return f"benchmarks.{self.name}"

    def of(self, params: Params) -> Any:
        """Return its settings; None where there are none."""
        return params.benchmarks.get(self.name)

    def check(self, params: Params) -> None:  # noqa: ARG002
        """Raise ValueError where its settings do not go with the others."""
        return

    def fitting(self, params: Params) -> Any:
        """Return its settings without what needs clips that there are not."""
        return self.of(params)

    def left_out(self, asked: Any, fitting: Any) -> list[str]:  # noqa: ARG002
        """Name what its settings ask for and those that fit the data do not."""
        return []

    def keys(self) -> tuple[str, ...]:
        """Return the keys of params.yaml that its stage reads: all its settings but `runs`."""
        fields = self.settings.model_fields
        own = [f"{self.section}.{key}" for key in fields if key != "runs"]
        own = own if "runs" in fields else [self.section]
        common = ("name", "data.name", "data.clip", "runs.RUN.trainer")
        return (*common, *self.reads, *own)

    def runs(self, params: Params) -> list[str]:
        """Return the runs that it scores; empty where it has nothing to do."""
        settings = self.of(params)
        chosen = None if settings is None else getattr(settings, "runs", None)
        asked = settings is not None and self.has_work(params)
        return [run for run in params.runs if asked and (chosen is None or run in chosen)]

    def has_work(self, params: Params) -> bool:  # noqa: ARG002
        """Whether there is anything to score encoders on."""
        return True

    def processes(self, params: Params) -> int:  # noqa: ARG002
        """Return how many processes compute at once, each with `trainer.threads`."""
        return 1

    def inputs(self, params: Params) -> list[Path]:  # noqa: ARG002
        """Return the files that it reads beside the index and the weights."""
        return []

    def requirements(self, params: Params) -> Iterator[Requirement]:  # noqa: ARG002
        """Yield what it needs, for the doctor."""
        yield from ()

    def metrics(self, body: Body) -> Iterator[tuple[str, str, float]]:
        """Yield the scores for metrics.json: group, name and value."""
        for row in body["scores"] if self.measures else ():
            for measure in self.measures:
                if row[measure] is not None:
                    name = self.metric.format_map({**row, "measure": measure})
                    yield self.name, name, row[measure]


class DataSetBenchmark(Benchmark):
    """A benchmark of the data sets that its settings list as `data`: of folders, and drawn ones."""

    folder: type[Any]  # settings of a data set in the folder `root`; others are drawn
    page: str  # says how to get such folders
    drawn_of_test = False  # drawn ones are the embedded data's test split, not of its kind alone

    def fitting(self, params: Params) -> Any:
        """Return its settings without data sets that would be drawn and cannot be."""
        settings = self.of(params)
        drawn = params.data.synthetic is not None
        drawn = drawn and (params.evaluation.test or not self.drawn_of_test)
        kept = tuple(data for data in settings.data if drawn or isinstance(data, self.folder))
        return settings.model_copy(update={"data": kept})

    def left_out(self, asked: Any, fitting: Any) -> list[str]:
        """Name the data sets that cannot be drawn."""
        return [data.name for data in asked.data if data not in fitting.data]

    def has_work(self, params: Params) -> bool:
        """Whether there is a data set."""
        return bool(self.fitting(params).data)

    def requirements(self, params: Params) -> Iterator[Requirement]:
        """Yield its data sets."""
        choice = self.section.replace(".", "/")
        remedy = f"docs/{self.page} says how to get it; or {choice}=none"
        for data in self.of(params).data:
            if isinstance(data, self.folder):
                yield Requirement(data.name, Path(data.root), remedy)
            else:
                yield Requirement(data.name, None, note="drawn by the project itself")
