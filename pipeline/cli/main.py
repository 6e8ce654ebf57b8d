"""`python -m pipeline COMMAND`: parse arguments, then run a stage or a command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.commands import manifest
from pipeline.configuration import layout, plugins, stages
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES, Stage
from pipeline.errors import UserError
from pipeline.planning import ending
from pipeline.runtime.files import disk_full
from pipeline.runtime.interruption import EXIT_RESUME_LATER
from pipeline.runtime.joblog import copied_to
from pipeline.runtime.launch import own_log
from pipeline.runtime.timing import recorded

# Modules of pipeline.cli.commands, in the order of the help.
COMMANDS = (
    *("split", "survey", "compose", "doctor", "shards", "embed", "neighbours", "export"),
    *("versions", "trace", "checkpoints"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (2 for what the user can put right)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] not in STAGES and arguments[0] != "compose":
            plugins.load_from(Path("params.yaml"))  # they may bring stages, and results to trace
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options = _parser().parse_args(arguments)
    with copied_to(own_log(options.log, os.environ)):
        try:
            return options.handler(options) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:  # such as `trace ... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141  # as a shell reports a program that ends so
        except ending.Terminated:
            again = "run the same command again and it goes on"
            print(f"stopped: SIGTERM\n  remedy: {again}", file=sys.stderr)
            return EXIT_RESUME_LATER
        except KeyboardInterrupt:
            print("interrupted: run the same command again and it goes on", file=sys.stderr)
            return 130
        except Exception as error:  # noqa: BLE001 - the traceback belongs into the log, too
            if full := disk_full(error):
                print(f"error: {full}", file=sys.stderr)
                return full.exit_code
            traceback.print_exc()
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From a list of videos to an evaluated SIGMA model. Snakemake calls these "
        "commands in order; each can be called by hand, and goes on where it was interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"pipeline.cli.commands.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(command)
        command.set_defaults(handler=module.run, log=None)
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.summary, description=stage.summary)
        command.add_argument("--params", default="params.yaml", help="default: %(default)s")
        if "chunk" in stage.per:
            command.add_argument("--chunk", type=int, required=True, help="number, from 0")
        if stage.takes_data:
            command.add_argument("--data", help="a key of `evaluation_data`; default: `data`")
        if "run" in stage.per:
            command.add_argument("--run", required=True, help="a key of `runs` in params.yaml")
        command.add_argument("--log", type=Path, help="copy what is printed to this file")
        command.set_defaults(handler=_run_stage)
        if name == "manifest":  # with a data set's name, the list itself is written
            manifest.add_arguments(command)
    return parser


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


def _run_stage(options: argparse.Namespace) -> None:
    from pipeline.cli.lineage import made
    from pipeline.configuration import composition, fitting_weights

    if getattr(options, "dataset", None):
        manifest.run(options)
        return
    ending.end_with_workflow(os.environ)
    stage = STAGES[options.command]
    params = composition.load(Path(options.params))
    if options.command in ("manifest", "pretrain"):  # before hours of downloads, and of evaluation
        fitting_weights.check(params)
    params, on = _on_data(params, stage, getattr(options, "data", None))
    wildcards = {name: getattr(options, name) for name in stage.per}
    if "chunk" in wildcards and not 0 <= wildcards["chunk"] < params.data.chunks:
        raise UserError(f"there is no chunk {options.chunk}", remedy="see data.chunks")
    if "run" in wildcards and wildcards["run"] not in params.runs:
        raise UserError(
            f"there is no run {options.run!r}", remedy=f"one of {', '.join(params.runs)}"
        )
    run = wildcards.get("run", "")
    restricted = stages.restrict(params.of(run), options.command, run)
    owner = layout.owner(params.name, on) if "name" in stage.reads else params.data.name
    with recorded(layout.times(owner, options.command, *wildcards.values()), os.environ):
        if stage.benchmark:
            runner = importlib.import_module("pipeline.evaluation.stage")
            runner.run(stage.benchmark, restricted, **wildcards, data=on)
        else:
            importlib.import_module(stage.module).run(restricted, **wildcards)
    if options.command in made.STAGES:
        made.record(params, options.command, **wildcards)
