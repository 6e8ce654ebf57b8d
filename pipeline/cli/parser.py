"""The command line's parser: the commands and the stages, and what each takes.

Help and completion read it, so it imports nothing that takes long: neither the configuration nor
numpy. A handler imports what it needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipeline.cli.commands import manifest

SCRIPT = "sigma-pipeline"
MODULE = "python -m pipeline"

# Modules of pipeline.cli.commands, in the order of the help.
COMMANDS = (
    *("init", "upgrade", "split", "merge", "survey", "compose", "sweep", "choose", "results"),
    *("doctor", "shards", "embed", "neighbours", "export"),
    *("versions", "trace", "checkpoints", "completion"),
)


class StageOptions(Protocol):
    """What the parser has to know of a stage; `pipeline.configuration.stages.Stage` has it."""

    @property
    def summary(self) -> str: ...
    @property
    def per(self) -> tuple[Literal["chunk", "run"], ...]: ...
    @property
    def takes_data(self) -> bool: ...


@dataclass(frozen=True)
class BuiltIn:
    """The same of a stage of this package."""

    summary: str
    per: tuple[Literal["chunk", "run"], ...] = ()
    takes_data: bool = True


# As in `pipeline.configuration.stages`, which takes half a second to import: a test compares them.
BUILT_IN: Mapping[str, StageOptions] = {
    "manifest": BuiltIn("check the list, split it into chunks"),
    "download": BuiltIn("fetch or make the videos", ("chunk",)),
    "decode": BuiltIn("check and transcode each video", ("chunk",)),
    "shard": BuiltIn("pack a chunk's clips into tar shards", ("chunk",)),
    "index": BuiltIn("list all shards, take the census"),
    "pretrain": BuiltIn("train one run's model", ("run",), takes_data=False),
    "evaluate": BuiltIn("score one run's encoder", ("run",)),
    "segment": BuiltIn("find objects in videos with one run's encoder", ("run",)),
    "severe": BuiltIn("try one run's encoder away from its data and task", ("run",)),
    "retrieve": BuiltIn("look for train clips of one run's test clips' classes", ("run",)),
    "few_shot": BuiltIn("recognise with few labels by one run's features", ("run",)),
    "order": BuiltIn("show one run's encoder clips out of order", ("run",)),
    "corrupt": BuiltIn("show one run's encoder corrupted clips", ("run",)),
    "propagate": BuiltIn("carry masks through videos by one run's features", ("run",)),
    "read_out": BuiltIn("read numbers from one run's frozen features", ("run",)),
    "surprise": BuiltIn(
        "compare the errors of one run's predictions on possible and impossible videos", ("run",)
    ),
    "report": BuiltIn("compare the runs: table and HTML page", takes_data=False),
}


def program() -> str:
    """Return the name by which the command line was called."""
    return SCRIPT if Path(sys.argv[0]).name == SCRIPT else MODULE


def parser(
    stages: Mapping[str, StageOptions] = BUILT_IN, *, prog: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of all commands and of these stages; options have a `handler`."""
    made = argparse.ArgumentParser(
        prog=prog or program(),
        description="From a list of videos to an evaluated SIGMA model. Snakemake calls these "
        "commands in order; each can be called by hand, and goes on where it was interrupted.",
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"pipeline.cli.commands.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(command)
        command.set_defaults(handler=module.run, log=None)
    for name, stage in stages.items():
        command = commands.add_parser(name, help=stage.summary, description=stage.summary)
        _add_stage_arguments(command, stage)
        if name == "manifest":  # with a data set's name, the list itself is written
            manifest.add_arguments(command)
    return made


def _add_stage_arguments(command: argparse.ArgumentParser, stage: StageOptions) -> None:
    command.add_argument("--params", default="params.yaml", help="default: %(default)s")
    if "chunk" in stage.per:
        command.add_argument("--chunk", type=int, required=True, help="number, from 0")
    if stage.takes_data:
        command.add_argument("--data", help="a key of `evaluation_data`; default: `data`")
    if "run" in stage.per:
        command.add_argument("--run", required=True, help="a key of `runs` in params.yaml")
    command.add_argument("--log", type=Path, help="copy what is printed to this file")
    command.set_defaults(handler=_run_stage)


def _run_stage(options: argparse.Namespace) -> None:
    from pipeline.cli import stage_command

    stage_command.run(options)
