"""Running one stage: its settings, its job, and the record of what it made."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from pipeline.cli.commands import manifest
from pipeline.cli.lineage import made
from pipeline.configuration import composition, fitting_weights, layout, stages, video_lists
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES, Stage
from pipeline.errors import UserError
from pipeline.planning import ending
from pipeline.runtime.timing import recorded


def run(options: argparse.Namespace) -> None:
    """Run the stage that `options.command` names, with the settings that it reads alone."""
    if getattr(options, "dataset", None):
        manifest.run(options)
        return
    ending.end_with_workflow(os.environ)
    stage = STAGES[options.command]
    params = composition.load(Path(options.params))
    if options.command in ("manifest", "pretrain"):  # before hours of downloads, and of evaluation
        fitting_weights.check(params)
    params, on = _on_data(params, stage, getattr(options, "data", None))
    if options.command == "manifest":
        video_lists.check_is_there(params.data, f"evaluation_data.{on}" if on else "data")
    wildcards = {name: getattr(options, name) for name in stage.per}
    if "chunk" in wildcards and not 0 <= wildcards["chunk"] < params.data.chunks:
        raise UserError(f"there is no chunk {options.chunk}", remedy="see data.chunks")
    if "run" in wildcards and wildcards["run"] not in params.runs:
        raise UserError(
            f"there is no run {options.run!r}", remedy=f"one of {', '.join(params.runs)}"
        )
    name = wildcards.get("run", "")
    restricted = stages.restrict(params.of(name), options.command, name)
    owner = layout.owner(params.name, on) if "name" in stage.reads else params.data.name
    with recorded(layout.times(owner, options.command, *wildcards.values()), os.environ):
        if stage.benchmark:
            runner = importlib.import_module("pipeline.evaluation.stage")
            runner.run(stage.benchmark, restricted, **wildcards, data=on)
        else:
            importlib.import_module(stage.module).run(restricted, **wildcards)
    if options.command in made.STAGES:
        made.record(params, options.command, **wildcards)


def _on_data(params: Params, stage: Stage, name: str | None) -> tuple[Params, str]:
    """Return the settings on a data set, and its name where it is a further one.

    Raises:
        UserError: where no data set of the experiment has this name, or a benchmark needs more
            than a further one has.
    """
    if name is None or name == params.data.name:
        return params, ""
    if name not in params.evaluation_data:
        known = ", ".join(params.data_sets)
        raise UserError(f"there is no data set {name!r}", remedy=f"one of {known}")
    if stage.benchmark and not stage.benchmark.on_further_data:
        raise UserError(f"{stage.benchmark.title} is not for further data sets", place=name)
    return params.on(name), name
