"""`python -m pipeline COMMAND`: parse arguments, load the configuration, call one stage."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline.configuration import stages
from pipeline.configuration.stages import STAGES
from pipeline.errors import UserError
from pipeline.joblog import copied_to


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (2 for what the user can put right)."""
    options = _parser().parse_args(arguments)
    with copied_to(options.log):
        try:
            options.handler(options)
            return 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("interrupted: run the same command again and it goes on", file=sys.stderr)
            return 130
        except Exception:  # noqa: BLE001 - a defect: the traceback belongs into the log, too
            traceback.print_exc()
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="From a list of videos to an evaluated SIGMA model. Snakemake calls these "
        "commands in order; each can be called by hand, and goes on where it was interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compose = commands.add_parser("compose", help="write params.yaml from Hydra groups")
    compose.add_argument("overrides", nargs="*", help="such as experiment=demo trainer.epochs=4")
    compose.add_argument("-o", "--output", default="params.yaml", help="default: %(default)s")
    compose.add_argument("--list", action="store_true", help="show the groups and their choices")
    compose.set_defaults(handler=_compose, log=None)
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.summary, description=stage.summary)
        command.add_argument("--params", default="params.yaml", help="default: %(default)s")
        if "chunk" in stage.per:
            command.add_argument("--chunk", type=int, required=True, help="number, from 0")
        if "run" in stage.per:
            command.add_argument("--run", required=True, help="a key of `runs` in params.yaml")
        command.add_argument("--log", type=Path, help="copy what is printed to this file")
        command.set_defaults(handler=_run_stage)
    return parser


def _compose(options: argparse.Namespace) -> None:
    from pipeline.configuration import composition
    from pipeline.files import write_text

    if options.list:
        for group, names in composition.choices().items():
            print(f"{group}: {', '.join(names)}")
        return
    write_text(options.output, composition.compose(options.overrides))
    for override, instead in composition.without_effect(options.overrides).items():
        print(
            f"warning: {override} changes no run of this experiment, whose runs set their own; "
            f"for one run: {instead}",
            file=sys.stderr,
        )
    print(f"wrote {options.output}; next: snakemake --cores all")


def _run_stage(options: argparse.Namespace) -> None:
    from pipeline.configuration import composition

    stage = STAGES[options.command]
    params = composition.load(Path(options.params))
    wildcards = {name: getattr(options, name) for name in stage.per}
    if "chunk" in wildcards and not 0 <= wildcards["chunk"] < params.data.chunks:
        raise UserError(f"there is no chunk {options.chunk}", remedy="see data.chunks")
    if "run" in wildcards and wildcards["run"] not in params.runs:
        raise UserError(
            f"there is no run {options.run!r}", remedy=f"one of {', '.join(params.runs)}"
        )
    given = stages.restrict(params, options.command, wildcards.get("run", ""))
    importlib.import_module(stage.module).run(given, **wildcards)
