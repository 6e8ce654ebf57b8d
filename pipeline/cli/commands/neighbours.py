"""`python -m pipeline neighbours FEATURES --query VIDEO`: the videos most like one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.use.embedding import arguments

if TYPE_CHECKING:
    from pipeline.use.embedding.features_file import Features
    from pipeline.use.embedding.neighbours import Hit, Query

SUMMARY = "find the videos most like one, by features that embed wrote"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("features", type=Path, metavar="FEATURES", help="what embed wrote")
    parser.add_argument(
        "--query", required=True, metavar="ID|VIDEO", help="an id of the file, or a video file"
    )
    parser.add_argument(
        "-k", type=arguments.positive, default=8, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with frames of each")
    parser.add_argument(
        "--checkpoint", metavar="CHECKPOINT",
        help="for a query that is a video file; default: the path that embed was given",
    )  # fmt: skip
    arguments.add_geometry(parser)


def run(options: argparse.Namespace) -> int:
    """Print a table, and write the page where it is asked for."""
    from pipeline.runtime.files import write_text
    from pipeline.use.embedding import features_file
    from pipeline.use.embedding.neighbours import nearest

    features = features_file.read(options.features)
    query = _query(features, options)
    hits = nearest(features, query, options.k)
    _print(query, hits)
    if options.html:
        from pipeline.use.embedding.page import render

        write_text(options.html, render(features, query, hits))
        print(f"wrote {options.html}")
    return 0


def _query(features: Features, options: argparse.Namespace) -> Query:
    from pipeline.use.embedding.neighbours import by_id, by_video

    if options.query in features.columns["id"] or not Path(options.query).is_file():
        return by_id(features, options.query)
    checkpoint = options.checkpoint or features.about.checkpoint["path"]
    model = arguments.model_of(options, checkpoint)
    return by_video(features, Path(options.query), model)


def _print(query: Query, hits: list[Hit]) -> None:
    print(f"nearest to {query.name}, by the cosine of features:")
    width = max([len(hit.moment.id) for hit in hits], default=0)
    for hit in hits:
        moment = hit.moment
        span = f"{moment.start:.2f} s to {moment.end:.2f} s"
        label = f"  {moment.label}" if moment.label else ""
        print(f"{hit.rank:>4}  {hit.similarity:.4f}  {moment.id:<{width}}  {span}{label}")
    if not hits:
        print("   (there is no other video)")
