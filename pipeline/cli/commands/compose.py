"""`python -m pipeline compose`: write params.yaml from Hydra groups."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.configuration.schema import Params

SUMMARY = "write params.yaml from Hydra groups"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("overrides", nargs="*", help="such as experiment=demo trainer.epochs=4")
    parser.add_argument("-o", "--output", default="params.yaml", help="default: %(default)s")
    parser.add_argument("--list", action="store_true", help="show the groups and their choices")
    parser.add_argument(
        "--reference", action="store_true", help="write docs/configuration.md from the schema"
    )


def run(options: argparse.Namespace) -> None:
    """Compose, check and write; say which overrides change nothing."""
    from pipeline.configuration import composition, old_names
    from pipeline.runtime.files import write_text

    if options.reference:
        _write_reference()
        return
    if options.list:
        for group, names in composition.choices().items():
            print(f"{group}: {', '.join(names)}")
        return
    old_names.tell_overrides(options.overrides)
    overrides = old_names.current(options.overrides)
    text = composition.compose(overrides)
    params = checked(text, options.output)
    _tell_of_larger_pictures(Path(options.output), params, overrides)
    write_text(options.output, text)
    if warning := composition.left_out(text):
        print(warning)
    for override, instead in composition.without_effect(overrides).items():
        print(
            f"warning: {override} changes no run of this experiment, whose runs set their own; "
            f"for one run: {instead}",
            file=sys.stderr,
        )
    print(f"wrote {options.output}; next: {next_command(options.output)}")
    tell_what_is_missing(params)


def checked(text: str, output: str) -> Params:
    """Return the settings of a text that is to be written, held to what lies here."""
    from pipeline.configuration import composition, folding, video_lists

    params = composition.parse(text, place=output)
    folding.check_folders(params)
    video_lists.check_columns(params)
    return params


def tell_what_is_missing(params: Params) -> None:
    """Say what keeps Snakemake from running what was written."""
    from pipeline.cli.versions.tools import is_locked

    for name in params.data_sets:
        manifest = params.on(name).data.manifest
        if manifest and not Path(manifest).is_file():
            print(f"warning: there is no list of videos {manifest} yet", file=sys.stderr)
    if not Path("Snakefile").is_file():
        print(
            "warning: there is no project here for snakemake to run; make one: "
            "sigma-pipeline init DIR",
            file=sys.stderr,
        )
    if is_locked():
        print(
            "a workflow is at work here (or was killed): it keeps the settings that it began with"
        )


def _tell_of_larger_pictures(written: Path, params: Params, overrides: Sequence[str]) -> None:
    """Note where weights of larger clips have a data set decoded anew that is stored already.

    `written` holds the settings of before, where there are any.
    """
    from pipeline.configuration import composition
    from pipeline.errors import UserError

    if any("short_side" in override for override in overrides) or not any(
        run.weights for run in params.runs.values()
    ):
        return
    with contextlib.suppress(OSError, UserError):
        before = composition.parse(written.read_text(encoding="utf-8"), place=str(written))
        for name in params.data_sets if before.name == params.name else ():
            side = params.on(name).data.decode.short_side
            was = before.on(name).data.decode.short_side if name in before.data_sets else side
            if side > was:
                key = "data" if name == params.data.name else f"evaluation_data.{name}"
                print(
                    f"note: {name} was stored at {was} pixels and is to be at {side}, as an "
                    "encoder takes so many: it is decoded anew, and every encoder scored anew on "
                    f"it; {key}.decode.short_side={was} keeps what is there, and enlarges "
                    "pictures for that encoder",
                    file=sys.stderr,
                )


def next_command(output: str) -> str:
    """Return the command that makes what a file of settings asks for."""
    is_usual = Path(output).resolve() == Path("params.yaml").resolve()
    return "snakemake --cores all" + ("" if is_usual else f" --config params={shlex.quote(output)}")


def _write_reference() -> None:
    from pipeline.configuration import reference
    from pipeline.runtime.files import write_text

    text = reference.PAGE.read_text(encoding="utf-8")
    write_text(reference.PAGE, reference.page(text))
    print(f"wrote {reference.PAGE.name}")
