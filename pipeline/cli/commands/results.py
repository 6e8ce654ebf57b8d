"""`python -m pipeline results`: the scores of several experiments in one table."""

from __future__ import annotations

import argparse
import os

SUMMARY = "show the scores of several experiments in one table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folders", nargs="+", help="of experiments, such as results/demo")


def run(options: argparse.Namespace) -> None:
    """Print a table per label and split.

    Raises:
        UserError: where an experiment has no scores.
    """
    from rich.console import Console

    from pipeline.report import several, terminal

    experiments = [several.read(name) for name in several.names(options.folders)]
    untrained = {run.name for each in experiments for run in each.runs if not run.trained}
    console = Console(highlight=False, width=None if os.isatty(1) else 160)
    terminal.show_tables(several.tables(experiments), untrained, console)
