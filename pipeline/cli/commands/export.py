"""`python -m pipeline export CHECKPOINT --to KIND`: a model in a form that others read."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.use.embedding import arguments

SUMMARY = "write a model for Transformers, ONNX, timm or as safetensors, and check it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    arguments.add_checkpoint(parser)
    parser.add_argument(
        "--to", required=True, choices=("huggingface", "safetensors", "onnx", "timm")
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: exports/NAME-KIND"
    )
    parser.add_argument(
        "--check-on", nargs="+", type=Path, default=[], metavar="VIDEO",
        help="compare on these; default: clips of the model's data set, or of the embedded one",
    )  # fmt: skip
    parser.add_argument("--licence", default="", help="of the weights, for the model card")
    parser.add_argument(
        "--data-licence", default="", help="of what it was trained on, for the card"
    )
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload it to the hub (private where it is new)"
    )
    parser.add_argument("--public", action="store_true", help="a new repository is public")
    arguments.add_geometry(parser)


def run(options: argparse.Namespace) -> int:
    """Export, say how far the result is from the original, and upload it where asked."""
    from pipeline.use.exporting import push
    from pipeline.use.exporting.export import export

    if options.push:
        push.check_name(options.push)
    model = arguments.model_of(options, options.checkpoint)
    folder = options.output or Path("exports") / f"{_name(options.checkpoint)}-{options.to}"
    done = export(
        model,
        options.to,
        folder,
        videos=options.check_on,
        licence=options.licence,
        data_licence=options.data_licence,
    )
    print(f"compared on {done.checked_on}; largest differences:")
    for name, value in done.differences.items():
        print(f"  {value:.2g}  {name}")
    print(f"wrote {done.folder}: {', '.join(done.files)}")
    if options.push:
        address = push.push(done.folder, options.push, public=options.public)
        print(f"uploaded to {address}")
    return 0


def _name(checkpoint: str) -> str:
    """The run's name for its model.safetensors, else the file's own."""
    path = Path(checkpoint)
    return path.resolve().parent.name if path.name == "model.safetensors" else path.stem
