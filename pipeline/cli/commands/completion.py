"""`sigma-pipeline completion SHELL`: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "print what bash or zsh needs to complete this command line"
SHELLS = ("bash", "zsh")
# What arguments are called that are files or folders.
FILES = ("VIDEO", "ID|VIDEO", "CHECKPOINT", "FILE", "DIR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("shell", choices=SHELLS, help="eval what is printed, or keep it in a file")


def run(options: argparse.Namespace) -> None:
    """Print the script; where a file is wanted, it completes files."""
    import shtab

    from pipeline.cli.parser import SCRIPT, parser

    made = parser(prog=SCRIPT)
    _complete_files(made)
    print(shtab.complete(made, options.shell))


def _complete_files(parser: argparse.ArgumentParser) -> None:
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.type is Path or action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
