"""`python -m pipeline versions record | bless`: Snakemake and DVC told of each other's work."""

from __future__ import annotations

import argparse

SUMMARY = "tell DVC what Snakemake made, or Snakemake what DVC brought"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("record", help="after snakemake: note all results in dvc.lock")
    actions.add_parser("bless", help="after dvc pull or checkout: count what is here as made")


def run(options: argparse.Namespace) -> None:
    """Run one of the actions; say what to do next."""
    from pipeline.cli.versions import agreement

    print(agreement.record() if options.action == "record" else agreement.bless())
