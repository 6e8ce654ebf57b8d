"""`python -m pipeline embed CHECKPOINT VIDEO...`: features of one's own videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.use.embedding import arguments

if TYPE_CHECKING:
    from pipeline.use.embedding.extraction import Extraction

SUMMARY = "write the features of videos, by any checkpoint"
TOO_MANY_LOST = 3  # exit status
SHOWN = 20  # lost videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    arguments.add_checkpoint(parser)
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="a video, a folder, or a list (CSV as in README.md, with start and end)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("features.parquet"), metavar="FILE",
        help="parquet or npz; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--clips", type=arguments.positive, default=1, metavar="N",
        help="of each video, spread evenly; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--per-tube", action="store_true", help="all tubes, not their mean")
    parser.add_argument(
        "--max-lost-share", type=float, default=0.05, metavar="SHARE",
        help=f"of the videos; where more are lost, exit status {TOO_MANY_LOST}; "
        "default: %(default)s",
    )  # fmt: skip
    arguments.add_device(parser)
    parser.add_argument("--batch-size", type=arguments.positive, default=8, help="clips at once")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read videos; default: by cores"
    )
    group = parser.add_argument_group("how videos are decoded")
    group.add_argument("--short-side", type=int, metavar="PIXELS", help="default: the clip's size")
    group.add_argument(
        "--own-fps", action="store_true", help="the video's own frames, whatever the model saw"
    )
    group.add_argument("--time-limit", type=float, metavar="SECONDS", help="for one video")
    arguments.add_geometry(parser)


def run(options: argparse.Namespace) -> int:
    """Embed the videos, say what is lost; return 3 where that is too much."""
    from pipeline.evaluation.rows import ExecutionOptions
    from pipeline.runtime.machine import cores
    from pipeline.use.embedding import extraction, features_file, videos
    from pipeline.weights.video_clips import ClipRequest, decoding

    if not 0 <= options.max_lost_share <= 1:
        raise UserError("--max-lost-share is a share: from 0 to 1")
    features_file.check_suffix(options.output)
    if not any(Path(each).exists() for each in options.videos):  # else lost, and output emptied
        raise UserError("no such file or folder", place=", ".join(options.videos))
    sources = videos.video_sources(options.videos)
    device = arguments.device_of(options.device)
    model = arguments.model_of(options, options.checkpoint)
    decode = decoding(
        model.clip,
        short_side=options.short_side,
        fps=None if options.own_fps else model.fps,
        time_limit_s=options.time_limit,
    )
    workers = options.workers
    if workers is None:
        workers = cores() if device.type != "cpu" else max(1, cores() // 2)
    result = extraction.extract(
        model,
        sources,
        ClipRequest(model.clip, decode, options.clips),
        options.output,
        ExecutionOptions(options.batch_size, min(workers, len(sources)), device=device),
        per_tube=options.per_tube,
    )
    return _report(result, options)


def _report(result: Extraction, options: argparse.Namespace) -> int:
    for lost in result.lost[:SHOWN]:
        print(f"lost: {lost['id']} ({lost['outcome']}): {lost['reason']}", file=sys.stderr)
    if len(result.lost) > SHOWN:
        more = len(result.lost) - SHOWN
        print(f"lost: and {more} more; the output lists them all", file=sys.stderr)
    shape = " x ".join(map(str, result.features.about.shape))
    census = ", ".join(f"{count} {name}" for name, count in result.features.about.census.items())
    print(
        f"wrote {options.output}: {len(result.features)} rows of {shape} from "
        f"{result.videos - len(result.lost)} of {result.videos} videos ({census})"
    )
    if result.lost_share > options.max_lost_share:
        print(
            f"error: {result.lost_share:.1%} of the videos are lost, more than --max-lost-share "
            f"{options.max_lost_share:g}",
            file=sys.stderr,
        )
        return TOO_MANY_LOST
    return 0
