"""`python -m pipeline compose`: write params.yaml from Hydra groups."""

from __future__ import annotations

import argparse
import sys

SUMMARY = "write params.yaml from Hydra groups"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("overrides", nargs="*", help="such as experiment=demo trainer.epochs=4")
    parser.add_argument("-o", "--output", default="params.yaml", help="default: %(default)s")
    parser.add_argument("--list", action="store_true", help="show the groups and their choices")


def run(options: argparse.Namespace) -> None:
    """Compose, check and write; say which overrides change nothing."""
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
