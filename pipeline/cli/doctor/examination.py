"""All areas that the doctor looks at, in the order of the stages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipeline.cli.doctor.findings import Finding, missing
from pipeline.configuration.schema import Params
from pipeline.errors import UserError, first_line

# Stage, module, function. Modules are imported one by one: what is broken there is a finding.
AREAS = (
    ("all stages", "workplace", "programs"),
    ("all stages", "workplace", "project"),
    ("all stages", "workplace", "slurm"),
    ("all stages", "dvc_remote", "remote"),
    ("all stages", "room", "disk"),
    ("manifest", "sources", "listed"),
    ("download", "sources", "fetching"),
    ("decode", "videos", "transcoding"),
    ("shard", "shards", "codecs"),
    ("pretrain", "loading", "workers"),
    ("pretrain", "shards", "decoders"),
    ("pretrain", "accelerators", "devices"),
    ("pretrain", "accelerators", "processes"),
    ("pretrain", "mixtures", "components"),
    ("pretrain", "training", "inputs"),
    ("pretrain", "training", "packages"),
    ("benchmarks", "benchmarks", "requirements"),
    ("report", "benchmarks", "report"),
)


def examine(params: Params, on_stage: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Yield every finding, stage by stage; `on_stage` is called with each stage that comes next.

    Nothing that is broken here ends the examination: it is a finding itself.
    """
    for stage, module, function in AREAS:
        if on_stage is not None:
            on_stage(stage)
        for finding in _findings(params, module, function):
            yield replace(finding, stage=finding.stage or stage)


def _findings(params: Params, module: str, function: str) -> Iterator[Finding]:
    try:
        area = getattr(importlib.import_module(f"pipeline.cli.doctor.{module}"), function)
        yield from area(params)
        for data in params.evaluation_data if module == "sources" else ():
            for finding in area(params.on(data)):
                if function == "listed" or finding.is_failure:
                    yield replace(finding, subject=f"{finding.subject} of {data}")
    except UserError as error:
        yield missing(function, error.problem, error.remedy, needed=True)
    except Exception as error:  # noqa: BLE001 - a library that does not load, whatever it says
        problem = f"{type(error).__name__}: {first_line(error)}"
        yield missing(function, problem, "make setup installs all packages", needed=True)
