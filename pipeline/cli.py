"""`python -m pipeline COMMAND`: parse arguments, load the configuration, call one stage."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError


@dataclass(frozen=True)
class Stage:
    """A stage of the chain: its module has `run(params, **wildcards) -> None`."""

    module: str
    summary: str
    per: tuple[str, ...] = ()  # "chunk" and/or "run": what one job is for


# In the order of the chain. Modules are imported only when their stage runs: torch takes seconds.
STAGES = {
    "manifest": Stage("pipeline.videos.manifest_stage", "check the list, split it into chunks"),
    "download": Stage("pipeline.videos.download_stage", "fetch or make the videos", ("chunk",)),
    "decode": Stage("pipeline.videos.decode_stage", "check and transcode each video", ("chunk",)),
    "shard": Stage("pipeline.shards.shard_stage", "pack a chunk's clips into tar shards", ("chunk",)),
    "index": Stage("pipeline.shards.index_stage", "list all shards, take the census"),
    "pretrain": Stage("pipeline.training.pretrain_stage", "train one run's model", ("run",)),
    "evaluate": Stage("pipeline.evaluation.evaluate_stage", "score one run's encoder", ("run",)),
    "report": Stage("pipeline.reporting.report_stage", "compare the runs: table and HTML page"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (2 for what the user can put right)."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "compose":
            return _compose(options)
        return _run_stage(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: run the same command again and it goes on", file=sys.stderr)
        return 130


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
    for name, stage in STAGES.items():
        command = commands.add_parser(name, help=stage.summary, description=stage.summary)
        command.add_argument("--params", default="params.yaml", help="default: %(default)s")
        if "chunk" in stage.per:
            command.add_argument("--chunk", type=int, required=True, help="number, from 0")
        if "run" in stage.per:
            command.add_argument("--run", required=True, help="a key of `runs` in params.yaml")
    return parser


def _compose(options: argparse.Namespace) -> int:
    from pipeline.configuration import composition
    from pipeline.files import write_text

    if options.list:
        for group, names in composition.choices().items():
            print(f"{group}: {', '.join(names)}")
        return 0
    write_text(options.output, composition.compose(options.overrides))
    print(f"wrote {options.output}; next: snakemake --cores all")
    return 0


def _run_stage(options: argparse.Namespace) -> int:
    from pipeline.configuration import composition

    stage = STAGES[options.command]
    params = composition.load(Path(options.params))
    wildcards = {name: getattr(options, name) for name in stage.per}
    if "chunk" in wildcards and not 0 <= wildcards["chunk"] < params.data.chunks:
        raise UserError(f"there is no chunk {options.chunk}", remedy="see data.chunks")
    if "run" in wildcards and wildcards["run"] not in params.runs:
        raise UserError(f"there is no run {options.run!r}", remedy=f"one of {list(params.runs)}")
    importlib.import_module(stage.module).run(params, **wildcards)
    return 0
