"""`sigma-pipeline upgrade`: the files of the installed version, for a project that `init` made."""

from __future__ import annotations

import argparse

SUMMARY = "bring a project's files to the installed version; edited ones are kept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would change, and change nothing"
    )


def run(options: argparse.Namespace) -> None:
    """Renew the files of the project in the working folder; say what was done and what is left.

    Raises:
        UserError: where there is no such project, its settings are not of this version, or a
            workflow is at work in it.
    """
    from pipeline.cli.project import upgrading

    print("\n".join(upgrading.upgrade(is_dry=options.dry_run)))
