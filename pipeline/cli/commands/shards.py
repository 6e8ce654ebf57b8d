"""`python -m pipeline shards verify DIR | show DIR KEY`: look after a folder of shards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = "check a folder of shards, or draw a clip's frames"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="read every byte; say what is not as the index says")
    show = actions.add_parser("show", help="write a contact sheet of one clip")
    for action in (verify, show):
        action.add_argument(
            "folder", type=Path, metavar="DIR", help="such as data/synthetic/shards"
        )
    show.add_argument("key", metavar="KEY", help="the clip's id, or its key in the tar")
    show.add_argument("-o", "--output", type=Path, metavar="FILE.png", help="default: KEY.png")


def run(options: argparse.Namespace) -> int:
    """Run one of the actions; return 1 where a problem was found."""
    return _verify(options.folder) if options.action == "verify" else _show(options)


def _verify(folder: Path) -> int:
    from pipeline.data.shards.index import DatasetIndex
    from pipeline.data.shards.verify import problems

    dataset = DatasetIndex.load(folder)
    count = 0
    for problem in problems(dataset):
        print(problem, flush=True)
        count += 1
    clips, bytes_ = (sum(getattr(s, name) for s in dataset.shards) for name in ("clips", "bytes"))
    what = f"{len(dataset.shards):,} shards, {clips:,} clips, {bytes_ / 2**20:,.1f} MiB"
    verdict = f"problems: {count:,}" if count else "as the index says"
    line = f"{folder}: {what} ({dataset.codec}), {verdict}"
    print(line, file=sys.stderr if count else sys.stdout)
    return 1 if count else 0


def _show(options: argparse.Namespace) -> int:
    from pipeline.data.load.contact_sheet import draw
    from pipeline.data.shards.clip_table import ids_of
    from pipeline.data.shards.format import id_of, key_of
    from pipeline.data.shards.index import DatasetIndex
    from pipeline.errors import UserError
    from pipeline.runtime.files import atomic_path

    dataset = DatasetIndex.load(options.folder)
    entries = dataset.clips(sorted(dataset.splits))
    ids = {options.key, id_of(options.key)}
    entry = next((entries[k] for k, name in enumerate(ids_of(entries)) if name in ids), None)
    if entry is None:
        raise UserError(
            f"there is no clip {options.key!r} in data set {dataset.name!r}",
            place=str(options.folder),
            remedy=f"one of {', '.join(ids_of(entries[:3]))}, ... ({len(entries):,} clips); lost "
            "clips are in lost.csv",
        )
    output = options.output or Path(f"{key_of(entry.id)}.png")
    sheet = draw(entry)
    with atomic_path(output) as temporary:
        sheet.save(temporary, "PNG")
    labels = "".join(f", {name} {value}" for name, value in entry.labels.items() if value)
    print(f"{entry.id}: {entry.frames} frames of {entry.width}x{entry.height}, {entry.fps:g} fps, "
          f"{entry.size:,} bytes ({entry.codec}), {entry.split}{labels}")  # fmt: skip
    print(f"wrote {output}")
    return 0
