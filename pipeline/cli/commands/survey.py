"""`python -m pipeline survey LIST|FOLDER`: what videos are, and which clips of them to train on."""

from __future__ import annotations

import argparse
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.survey.summary import Survey

SUMMARY = "tell what videos are, and propose frames, stride, size and tubes with their cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "source", type=Path, metavar="LIST|FOLDER", help="a CSV of clips, or a folder of videos"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        help="further ones of `compose`, such as experiment=one model=vit_small",
    )
    parser.add_argument(
        "--files", type=int, default=500, metavar="N",
        help="probe at most so many, always the same ones; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("survey.html"), metavar="FILE",
        help="the picture; default: %(default)s",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Probe, print a summary, and write the page."""
    from pipeline.cli.survey import page, summary
    from pipeline.runtime.files import write_text

    if options.files < 1:
        raise UserError("--files is a number of files: at least 1")
    survey = summary.survey(options.source, options.files, _base(options))
    for line in summary.lines(survey):
        print(line)
    _say_next(survey)
    write_text(options.output, page.render(survey))
    print(f"wrote {options.output}")


def _base(options: argparse.Namespace) -> list[str]:
    """Return the overrides that stand before the proposal, and the user's own, which win."""
    source = options.source.resolve()
    stem = source.stem if source.stem != "list" else source.parent.name
    letters = unicodedata.normalize("NFKD", stem.casefold()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", letters).strip("_") or "mine"
    listed = f"manifests/{name}.csv" if source.is_dir() else options.source.as_posix()
    usual = ["experiment=demo", f"name={name}", "data=folder", f"data.name={name}"]
    chosen = {override.partition("=")[0] for override in options.overrides}
    base = [override for override in usual if override.partition("=")[0] not in chosen]
    return [*base, f"data.manifest={listed}", *options.overrides]


def _say_next(survey: Survey) -> None:
    if survey.commands:
        print("to train on such clips:")
    for command in survey.commands:
        print(f"  {command}")
