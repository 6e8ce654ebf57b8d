"""`python -m pipeline report`: compare the runs on the terminal, as JSON and as one page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.report import neighbours, page, results, segments, summary, terminal
from pipeline.report.gallery import PROTOTYPES, Gallery, choose_clips, gallery
from pipeline.report.neighbours import NeighbourGroup, neighbour_groups
from pipeline.report.results import Results
from pipeline.report.seeds import seed_groups
from pipeline.report.selection import within
from pipeline.report.strips import StripGroup, hiding_alike, strip_group
from pipeline.runtime.files import remove_leftovers, sha256_file, write_json, write_text

PICTURES = 8 * 10**6  # bytes of all pictures in the page: with plotly.js it stays below 15 MB
NEIGHBOURS = 25 * 10**5  # of them: bytes of the neighbours


def run(params: Params) -> None:
    """Write `figures/`, `report.html`, `metrics.json` and, last, `evaluation.json`.

    Prints the table; the last line is the page's path.

    Raises:
        UserError: where a run has not been scored, or its scores are not of this data set.
    """
    experiment = results.read(params)
    remove_leftovers(
        experiment.layout.report, experiment.layout.metrics, experiment.layout.evaluation
    )
    remove_leftovers(experiment.layout.figures)
    for each in (experiment, *experiment.further):
        _check_inputs(each)
    torch.set_num_threads(max(each.trainer.threads for each in params.runs.values()))
    rendered = page.render(experiment, _pictures(experiment))
    _write_sections(experiment.layout.figures, rendered.sections)
    write_text(experiment.layout.report, rendered.page)
    write_json(experiment.layout.metrics, summary.metrics(experiment))
    write_json(experiment.layout.evaluation, summary.evaluation(experiment))
    # A log file has no width of its own, and a row must not be broken in two there; COLUMNS is that
    # of the terminal on which a workflow will show it.
    has_width = os.isatty(1) or "COLUMNS" in os.environ
    console = Console(highlight=False, width=None if has_width else 110)
    terminal.show(experiment, console)
    console.print(f"report: {experiment.layout.report}", soft_wrap=True)


def _pictures(experiment: Results) -> page.Pictures:
    """Draw what fits, or note why not: for want of a picture nobody goes without the numbers.

    Of runs that differ in their seed alone the first one is drawn.
    """
    shown = replace(experiment, runs=tuple(each.first for each in seed_groups(experiment.runs)))
    failures: dict[str, str] = {}
    split, clips = choose_clips(experiment)
    clip = experiment.params.data.clip
    strips: list[StripGroup] = []
    for runs in hiding_alike(shown):
        names = ", ".join(run.name for run in runs)
        with _noted(f"masks of {names}", failures):
            strips.append(strip_group(runs, clip, split, clips))
    overlays = segments.overlay_groups(shown)
    near: list[NeighbourGroup] = []
    with _noted("nearest neighbours", failures):
        near = within(neighbour_groups(shown), neighbours.QUERIES, NEIGHBOURS)
    galleries: list[Gallery] = []
    for run in shown.runs:
        if run.has_prototypes:
            with _noted(f"prototypes of {run.name}", failures):
                galleries.append(gallery(run, clip, split, clips))
    room = PICTURES - sum(each.size for each in strips) - sum(each.size for each in near)
    room -= sum(each.size for each in overlays)
    return page.Pictures(within(galleries, PROTOTYPES, room), strips, overlays, near, failures)


@contextlib.contextmanager
def _noted(what: str, failures: dict[str, str]) -> Iterator[None]:
    """Note in `failures` why `what` cannot be drawn within the block."""
    try:
        yield
    except UserError as error:
        failures[what] = str(error)


def _write_sections(folder: Path, sections: Mapping[str, str]) -> None:
    """Write each section as a page, and remove those of before that are no longer there."""
    for name, html in sections.items():
        write_text(folder / f"{name}.html", html)
    for path in folder.glob("*.html"):
        if path.stem not in sections:
            path.unlink()


def _check_inputs(experiment: Results) -> None:
    """Refuse scores of another version of the data set or of other weights."""
    index = sha256_file(experiment.data.index)
    for each in experiment.runs:
        weights = sha256_file(each.layout.weights)
        for benchmark, body in each.results.items():
            command, after = BENCHMARKS[benchmark].stage, BENCHMARKS[benchmark].after
            expected = {"weights": weights}
            if benchmark == "evaluation" or "evaluation" in after:
                expected["index"] = index
            if "evaluation" in after:
                expected["features"] = each.evaluated["outputs"]["features"]
            for name, digest in expected.items():
                if body.get("inputs", {}).get(name) != digest:
                    raise UserError(
                        f"the scores of run {each.name!r} were taken with another {name} than the "
                        "present one",
                        place=str(each.layout.result(benchmark)),
                        remedy=f"python -m pipeline {command} {each.layout.options}",
                    )
