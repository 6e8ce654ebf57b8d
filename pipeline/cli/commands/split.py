"""`python -m pipeline split LIST --val SHARE`: a validation split out of a list's training clips.

Which clips it gets depends on hashes alone: equal lists give equal splits, on any machine.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.commands import manifest
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.manifest.rows import Row

SUMMARY = "carve a validation split out of the training clips of a list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("list", type=Path, metavar="LIST", help="a CSV of clips (docs/sources.md)")
    parser.add_argument(
        "--val", type=float, required=True, metavar="SHARE", help="of the training clips"
    )
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        help="keep clips with the same value together, such as those of a person; without it, "
        "those of a video stay together, and every label gives its share",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: LIST-val.csv")


def run(options: argparse.Namespace) -> None:
    """Write the list anew, and say what is in it."""
    from pipeline.data.manifest import video_list

    if not 0 < options.val < 1:
        raise UserError("--val is a share: more than 0, less than 1")
    rows = video_list.read(options.list)
    if any(row.split == "val" for row in rows):
        raise UserError(
            "the list has a split val already",
            place=str(options.list),
            remedy="give its clips the split train first, or leave the list as it is",
        )
    if options.by and not all(row.column(options.by) for row in rows if row.split == "train"):
        raise UserError(
            f"column {options.by!r} is empty for some training clips, or there is none",
            place=str(options.list),
            remedy="give each training clip a value there, or choose another column",
        )
    chosen = validation_ids(rows, options.val, options.by)
    if not chosen:
        raise UserError(
            f"there are too few groups of training clips to give {options.val:g} of them to val",
            place=str(options.list),
            remedy="choose a larger --val, or a --by with more values",
        )
    output = options.output or options.list.with_name(f"{options.list.stem}-val.csv")
    manifest.write_rows(
        output, [row._replace(split="val") if row.id in chosen else row for row in rows]
    )


def validation_ids(rows: Iterable[Row], share: float, by: str | None = None) -> set[str]:
    """Return the ids of the training clips that become the validation split.

    Clips of one video, or with the same value `by` a column, are not parted. Without `by`, each
    label gives its share, as nearly as whole videos can. Something is left to train on, of
    every label.
    """
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.split == "train":
            groups[row.column(by) if by else row.source[1]].append(row)
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for name, members in groups.items():
        strata["" if by else members[0].label].append(name)
    return {
        row.id
        for names in strata.values()
        for name in _taken(names, {each: len(groups[each]) for each in names}, share)
        for row in groups[name]
    }


def _taken(names: Sequence[str], sizes: dict[str, int], share: float) -> list[str]:
    """Return groups in the order of their hashes, whose clips are nearest to `share` of all."""
    from pipeline.data.manifest.rows import hash_of

    wanted, taken = share * sum(sizes.values()), list[str]()
    clips = 0
    for name in sorted(names, key=hash_of)[:-1]:
        if clips + sizes[name] / 2 > wanted:
            break
        taken.append(name)
        clips += sizes[name]
    return taken
