"""The data that the benchmarks are run on, and what the report is made with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, missing, ok
from pipeline.cli.doctor.workplace import version_of
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import MaskFolder, Params


def evaluation(params: Params) -> Iterator[Finding]:
    """scikit-learn, and folders of images."""
    yield ok("evaluate", "scikit-learn", version_of("scikit-learn"))
    for images in params.evaluation.images:
        remedy = "docs/evaluation.md says what belongs there; or evaluation.images=[]"
        yield _path("evaluate", images.name, images.folder, remedy)


def segmentation(params: Params) -> Iterator[Finding]:
    """Data sets with masks."""
    for data in params.segmentation.data:
        if isinstance(data, MaskFolder):
            remedy = "docs/segmentation.md says how to get it; or segmentation=none"
            yield _path("segment", data.name, data.root, remedy)
        else:
            yield ok("segment", data.name, "drawn by the project itself")
    if not params.segmentation.data:
        yield ok("segment", "data", "none asked for")


def severe(params: Params) -> Iterator[Finding]:
    """Data sets that tasks are taken from: each has to be made by an experiment of its own."""
    for name in params.severe.other_data:
        index = DataLayout(name).index
        remedy = f"make it first: compose with data={name}, snakemake data (docs/severe.md)"
        yield _path("severe", name, str(index), remedy)
    if not params.severe.tasks:
        yield ok("severe", "tasks", "none asked for")
    elif not params.severe.other_data:
        yield ok("severe", "tasks", f"{len(params.severe.tasks)}, on data that is here or drawn")


def report(_params: Params) -> Iterator[Finding]:
    """What draws the page: rendered once."""
    import jinja2
    import plotly

    jinja2.Template("{{ 1 + 1 }}").render()
    yield ok("report", "plotly, jinja2", f"{plotly.__version__}, {version_of('jinja2')}")


def _path(stage: str, subject: str, path: str, remedy: str) -> Finding:
    if Path(path).exists():
        return ok(stage, subject, path)
    return missing(stage, subject, f"{path} is not there", remedy, needed=True)
