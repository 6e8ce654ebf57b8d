"""`python -m pipeline merge NAME=LIST NAME=LIST -o FILE`: one list of several, for a mixture.

A column says which list a clip is from; `trainer.mixture` gives each its weight (docs/training.md).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pipeline.cli.commands import manifest
from pipeline.errors import UserError

SUMMARY = "lay several lists of clips together, with a column that tells them apart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "lists", nargs="+", metavar="NAME=LIST", help="a CSV of clips, and what to call it"
    )
    parser.add_argument(
        "--column", default="source", help="where NAME stands in the new list; default: %(default)s"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True)


def run(options: argparse.Namespace) -> None:
    """Write the list, and say what is in it. A clip's id becomes NAME-ID."""
    from pipeline.data.manifest import rows, video_list

    column = options.column
    merged = []
    for name, path in _named(options.lists).items():
        for row in video_list.read(path):
            if column in rows.COLUMNS or column in row.extra:
                raise UserError(
                    f"there is a column {column!r} already",
                    place=str(path),
                    remedy="give --column another name",
                )
            clip_id = f"{name}-{row.id}"
            if not rows.ID.fullmatch(clip_id):
                raise UserError(
                    f"id {clip_id[:60]!r} cannot be used: {rows.ID_RULE}",
                    place=str(path),
                    remedy=f"give the list a shorter name than {name}",
                )
            merged.append(row._replace(id=clip_id, extra={**row.extra, column: name}))
    extra = dict.fromkeys(name for row in merged for name in row.extra)
    first = merged[0]  # names the columns of all
    merged[0] = first._replace(extra={name: first.extra.get(name, "") for name in extra})
    manifest.write_rows(options.output, merged)


def _named(given: list[str]) -> dict[str, Path]:
    """Return the lists by their names."""
    lists: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not path or not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise UserError(
                f"{text!r} is not NAME=LIST", remedy="a NAME is of A-Z a-z 0-9 _ and -: ssv2=my.csv"
            )
        if name in lists:
            raise UserError(f"two lists are called {name}", remedy="give each a name of its own")
        lists[name] = Path(path)
    return lists
