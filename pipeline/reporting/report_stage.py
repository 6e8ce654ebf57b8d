"""`python -m pipeline report`: compare the runs on the terminal, as JSON and as one page."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from rich.console import Console

from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.files import sha256_file, write_json, write_text
from pipeline.reporting import page, results, segments, summary, terminal
from pipeline.reporting.gallery import Gallery, choose_clips, gallery, within
from pipeline.reporting.results import Results
from pipeline.reporting.strips import StripGroup, strip_groups
from pipeline.shards.format import ClipEntry

PICTURES = 8 * 10**6  # bytes of all pictures in the page: with plotly.js it stays below 15 MB


def run(params: Params) -> None:
    """Write `report.html`, `metrics.json` and, last, `evaluation.json`; print the table.

    The last line that it prints is the page's path.

    Raises:
        UserError: where a run has not been scored, or its scores are not of this data set.
    """
    found = results.read(params)
    _check_inputs(found)
    torch.set_num_threads(max(each.trainer.threads for each in params.runs.values()))
    failures: dict[str, str] = {}
    split, clips = choose_clips(found)
    strips = _strips(found, split, clips, failures)
    overlays = segments.overlays(found)
    room = PICTURES - sum(group.size for group in strips)
    room -= sum(len(overlay.picture) for overlay in overlays)
    galleries = within(_galleries(found, split, clips, failures), room)
    write_text(found.layout.report, page.render(found, galleries, strips, overlays, failures))
    write_json(found.layout.metrics, summary.metrics(found))
    write_json(found.layout.evaluation, summary.evaluation(found))
    # A log file has no width of its own, and a row must not be broken in two there.
    console = Console(highlight=False, width=None if os.isatty(1) else 110)
    terminal.show(found, console)
    console.print(f"report: {found.layout.report}", soft_wrap=True)


def _galleries(
    found: Results, split: str, clips: Sequence[ClipEntry], failures: dict[str, str]
) -> list[Gallery]:
    """Draw prototypes, or note why not: for want of a picture nobody goes without the numbers."""
    drawn = []
    for each in found.runs:
        if each.has_prototypes:
            try:
                drawn.append(gallery(each, found.params.data.clip, split, clips))
            except UserError as error:
                failures[f"prototypes of {each.name}"] = str(error)
    return drawn


def _strips(
    found: Results, split: str, clips: Sequence[ClipEntry], failures: dict[str, str]
) -> list[StripGroup]:
    try:
        return strip_groups(found, split, clips)
    except UserError as error:
        failures["masks"] = str(error)
        return []


def _check_inputs(found: Results) -> None:
    """Refuse scores of another version of the data set or of other weights."""
    index = sha256_file(found.data.index)
    for each in found.runs:
        weights = sha256_file(each.layout.weights)
        for command, path, body in (
            ("evaluate", each.layout.evaluated, each.evaluated),
            ("segment", each.layout.segmented, each.segmented),
            ("severe", each.layout.severe, each.severe),
        ):
            expected = {"weights": weights} | ({"index": index} if command == "evaluate" else {})
            for name, digest in expected.items():
                if body and body.get("inputs", {}).get(name) != digest:
                    raise UserError(
                        f"the scores of run {each.name!r} were taken with another {name} than the "
                        "present one",
                        place=str(path),
                        remedy=f"python -m pipeline {command} --run {each.name}",
                    )
