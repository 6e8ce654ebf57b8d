"""`python -m pipeline checkpoints RUN`: the trainings that a run has, also those set aside."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.configuration import layout
    from pipeline.runtime.checkpoint_sets import ArchivedSet, SetInfo

SUMMARY = "list the trainings of a run that were set aside, and bring one back"
SHOWN = 6  # differences of one set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("name", metavar="RUN", help="a key of `runs` in params.yaml")
    parser.add_argument("--params", default="params.yaml", help="default: %(default)s")
    parser.add_argument(
        "--bring-back", type=int, metavar="N", help="set the present one aside, and number N back"
    )


def run(options: argparse.Namespace) -> int:
    """Print a line for each set, with what it differs in from the present one."""
    from pipeline.configuration import composition, layout
    from pipeline.runtime import checkpoint_sets
    from pipeline.training import pretrain_stage

    params = composition.load(Path(options.params))
    if options.name not in params.runs:
        raise UserError(
            f"there is no run {options.name!r}", remedy=f"one of {', '.join(params.runs)}"
        )
    of_run = layout.RunLayout(params.name, options.name)
    if options.bring_back is not None:
        with pretrain_stage.claimed(of_run, f"checkpoints {options.name}"):
            _bring_back(of_run, options.bring_back)
    checkpoints = pretrain_stage.checkpoints_of(of_run)
    _, present = checkpoints.newest()
    for line in _listed(present, checkpoint_sets.archived(of_run.checkpoints)):
        print(line)
    return 0


def _bring_back(of_run: layout.RunLayout, number: int) -> None:
    from pipeline.runtime import checkpoint_sets
    from pipeline.training import pretrain_stage

    archived = checkpoint_sets.archived(of_run.checkpoints)
    chosen = next((each for each in archived if each.number == number), None)
    if chosen is None:
        numbers = ", ".join(str(each.number) for each in reversed(archived)) or "none"
        raise UserError(
            f"no training number {number} was set aside (there are: {numbers})",
            place=str(of_run.checkpoints / checkpoint_sets.ASIDE),
        )
    checkpoints = pretrain_stage.checkpoints_of(of_run)
    _, present = checkpoints.newest()
    of_run.pretrained.unlink(missing_ok=True)  # it vouches for what is about to go
    if present is not None:
        place = checkpoint_sets.archive(of_run.checkpoints, present, checkpoints.companions)
        print(f"what was there is kept in {place}")
    checkpoint_sets.restore(of_run.checkpoints, chosen, checkpoints.companions)
    print(
        f"number {number} is back; it is gone on with under its own settings and code, and under "
        "other code by trainer.on_code_change=resume"
    )


def _listed(present: SetInfo | None, aside: list[ArchivedSet]) -> Iterator[str]:
    from pipeline.runtime import checkpoint_sets

    if present is None:
        yield "present: no checkpoint"
    else:
        yield f"present: {_summary(present)}"
    for each in aside:
        yield f"{each.number:>7}: {_summary(each.info)}  {each.folder}"
        if present is None:
            continue
        differing = checkpoint_sets.differences(each.info.settings, present.settings)
        files = checkpoint_sets.changed_files(each.info.code, present.code)
        if not each.info.code and files:
            files = ["which files of its code differ was not noted"]
        for line in [*differing, *files][:SHOWN]:
            yield f"{'':9}{line}"
        if len(differing) + len(files) > SHOWN:
            yield f"{'':9}and {len(differing) + len(files) - SHOWN} more"


def _summary(info: SetInfo) -> str:
    return f"step {info.step:,}, {info.seconds / 3600:.2f} h of training, {info.date}"
