"""Where the time went: what each stage's jobs took, as the command line recorded it.

Of a job that nobody timed (its results came from elsewhere, by DVC say) the seconds in its own
manifest stand, where it has some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.configuration import layout
from pipeline.configuration.stages import STAGES
from pipeline.report.results import Results
from pipeline.runtime.timing import sessions

NOT_SHOWN = ("report",)  # it is not done yet


@dataclass(frozen=True)
class Job:
    """One job: of a chunk or a run. Seconds are of wall clock, over all its `sessions`."""

    name: str  # the chunk's number, the run's name, or nothing
    seconds: float
    cpu_seconds: float | None
    memory_mib: float | None  # the most that one of its processes held
    sessions: int = 1  # processes that worked on it, one after the other
    unknown: int = 0  # of them killed before they could say how long they took


@dataclass(frozen=True)
class StageTime:
    """All jobs of a stage; `of` says how many there are, those without a time too."""

    stage: str
    summary: str
    per: str  # what one job is for: `chunk`, `run`, or nothing
    jobs: tuple[Job, ...]
    of: int

    @property
    def seconds(self) -> float:
        return sum(job.seconds for job in self.jobs)

    @property
    def longest(self) -> float:
        return max((job.seconds for job in self.jobs), default=0.0)

    @property
    def cpu_seconds(self) -> float | None:
        return _sum(job.cpu_seconds for job in self.jobs)

    @property
    def memory_mib(self) -> float | None:
        known = [job.memory_mib for job in self.jobs if job.memory_mib is not None]
        return max(known, default=None)

    @property
    def missing(self) -> int:
        """Jobs without a time."""
        return self.of - len(self.jobs)

    @property
    def interrupted(self) -> int:
        """Jobs that more than one process worked on, one after the other."""
        return sum(job.sessions > 1 for job in self.jobs)


def stage_times(results: Results) -> list[StageTime]:
    """Return the stages in the order of the chain; those that nothing is known of have no jobs.

    A benchmark that has nothing to do is left out.
    """
    shown = []
    for name, stage in STAGES.items():
        if name in NOT_SHOWN:
            continue
        further = results.further if stage.takes_data else ()
        jobs = [job for each in (results, *further) for job in _jobs(each, name)]
        if not jobs:
            continue
        known = tuple(job for job in jobs if job)
        shown.append(StageTime(name, stage.summary, "".join(stage.per), known, len(jobs)))
    return shown


def jobs_of_runs(results: Results, stage: str) -> dict[str, Job]:
    """Return a stage's jobs by their runs, of those that have a time."""
    return {job.name: job for job in _jobs(results, stage) if job is not None}


def _jobs(results: Results, name: str) -> list[Job | None]:
    """Return the jobs of a stage on one data set; None for one without a time."""
    stage, params, names = STAGES[name], results.params, [""]
    if "chunk" in stage.per:
        names = [str(chunk) for chunk in range(params.data.chunks)]
    elif "run" in stage.per:
        names = stage.benchmark.runs(params) if stage.benchmark else list(params.runs)
    scored = layout.owner(params.name, results.runs[0].layout.data)
    owner = scored if "name" in stage.reads else params.data.name
    manifests = _manifests(results, name)
    return [_job(owner, name, job, manifests.get(job, {})) for job in names]


def _job(owner: str, stage: str, name: str, manifest: Mapping[str, Any]) -> Job | None:
    entries = sessions(layout.times(owner, stage, name))
    timed = [entry for entry in entries if "seconds" in entry]
    if not timed:
        seconds = manifest.get("seconds")
        return None if seconds is None else Job(name, float(seconds), None, None)
    return Job(
        name,
        seconds=sum(entry["seconds"] for entry in timed),
        cpu_seconds=_sum(entry.get("cpu_seconds") for entry in timed),
        memory_mib=max((entry.get("peak_memory_mib") or 0 for entry in timed), default=None),
        sessions=len(entries),
        unknown=len(entries) - len(timed),
    )


def _manifests(results: Results, stage: str) -> dict[str, Mapping[str, Any]]:
    """Return the manifests of a stage's runs, which hold `seconds`."""
    if stage == "pretrain":
        return {run.name: run.pretrained for run in results.runs}
    if benchmark := STAGES[stage].benchmark:
        return {run.name: run.results.get(benchmark.name, {}) for run in results.runs}
    return {}


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where one is unknown."""
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value)
