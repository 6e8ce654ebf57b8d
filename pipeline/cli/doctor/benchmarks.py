"""The data that the benchmarks are run on, and what the report is made with."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.cli.doctor.findings import Finding, missing, ok
from pipeline.cli.doctor.workplace import version_of
from pipeline.configuration.schema import Params
from pipeline.evaluation.registry import BENCHMARKS


def requirements(params: Params) -> Iterator[Finding]:
    """What each benchmark declares that it needs."""
    for benchmark in BENCHMARKS.values():
        stage = benchmark.stage
        if not benchmark.runs(params):
            yield ok(benchmark.title, "none asked for", stage=stage)
            continue
        for each in benchmark.requirements(params):
            if each.path is None:
                yield ok(each.subject, each.note, stage=stage)
            elif each.path.exists():
                yield ok(each.subject, str(each.path), stage=stage)
            else:
                absent = f"{each.path} is not there"
                yield missing(each.subject, absent, each.remedy, needed=True, stage=stage)


def report(_params: Params) -> Iterator[Finding]:
    """What draws the page: rendered once."""
    import jinja2
    import plotly

    jinja2.Template("{{ 1 + 1 }}").render()
    yield ok("plotly, jinja2", f"{plotly.__version__}, {version_of('jinja2')}")
