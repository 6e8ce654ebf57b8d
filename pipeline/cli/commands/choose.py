"""`python -m pipeline choose`: write params.yaml for the best trials of a sweep."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.configuration.schema import Sweep
    from pipeline.configuration.sweeps import Choice

SUMMARY = "write params.yaml for the best trials of a sweep, to score them on test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", type=Path, help="of the sweep, such as results/demo_sweep")
    parser.add_argument("--by", required=True, help="LABEL/PROBE, such as motion/linear")
    parser.add_argument("-o", "--output", default="params.yaml", help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Choose by a score on val, note the choice beside the trials, and compose.

    Raises:
        UserError: where the folder has no finished sweep, or another choice was made before.
    """
    from pipeline.cli.commands.compose import next_command
    from pipeline.configuration import composition, layout, sweeps
    from pipeline.runtime.files import read_mapping, write_json, write_text

    experiment = layout.ExperimentLayout(options.folder.name)
    place = str(experiment.evaluation)
    body = read_mapping(place, remedy="snakemake --cores all makes the scores of the trials")
    sweep = composition.validate(body.get("settings"), place=place).sweep
    if sweep is None:
        raise UserError("this experiment is no sweep", place=place)
    choices = sweeps.choose(sweep, _scores(body, sweep, options.by, place))
    record = {"by": options.by, "chosen": [_described(choice) for choice in choices]}
    runs = body["settings"]["runs"]
    text = sweeps.compose_chosen(experiment.name, sweep, runs, choices)
    _refuse_another(experiment.chosen, record)
    write_json(experiment.chosen, record)
    write_text(options.output, text)
    for choice in choices:
        values = ", ".join(f"{name}={value}" for name, value in choice.values.items())
        print(
            f"{choice.run}: {values or 'nothing varied'} ({options.by} on val {choice.mean:.1%}, "
            f"the best of {choice.tried} trials): {', '.join(choice.trials)}"
        )
    print(f"wrote {options.output}; next: {next_command(options.output)}")


def _scores(body: Mapping[str, Any], sweep: Sweep, by: str, place: str) -> dict[str, float]:
    """Return each trial's score on val."""
    on_val = [row for row in body["scores"] if row["split"] == "val" and row["run"] in sweep.trials]
    known = dict.fromkeys(f"{row['label']}/{row['probe']}" for row in on_val)
    scores = {row["run"]: row["top1"] for row in on_val if f"{row['label']}/{row['probe']}" == by}
    if missing := [name for name in sweep.trials if name not in scores]:
        raise UserError(
            f"{missing[0]} has no score {by} on val",
            place=place,
            remedy=f"choose by one of {', '.join(known) or 'none'}",
        )
    return scores


def _described(choice: Choice) -> dict[str, Any]:
    return {
        "run": choice.run,
        "trials": list(choice.trials),
        "values": dict(choice.values),
        "val": choice.mean,
        "tried": choice.tried,
    }


def _refuse_another(path: Path, record: Mapping[str, Any]) -> None:
    """Keep to the first choice: a second one would be made with test scores in sight."""
    from pipeline.runtime.files import read_mapping

    if path.is_file() and (before := read_mapping(path)) != record:
        chosen: Sequence[Mapping[str, Any]] = before["chosen"]
        names = ", ".join(trial for each in chosen for trial in each["trials"])
        raise UserError(
            f"by {before['by']} others were chosen before ({names}), and may be scored on test",
            place=str(path),
            remedy="where no test score was made yet, delete this file and choose again",
        )
