"""`python -m pipeline sweep`: write params.yaml for an experiment whose runs are trials."""

from __future__ import annotations

import argparse
from collections import Counter

SUMMARY = "write params.yaml for trials of several values, scored on val alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "overrides",
        nargs="+",
        help="as compose, and keys with several values: experiment=demo runs=[sigma_mlp,pixel] "
        "trainer.optimiser.base_lr=1e-4,5e-4 trainer.seed=0,1,2",
    )
    parser.add_argument("-o", "--output", default="params.yaml", help="default: %(default)s")


def run(options: argparse.Namespace) -> None:
    """Compose, check and write; say how many trials each run has."""
    from pipeline.cli.commands.compose import checked, next_command, tell_what_is_missing
    from pipeline.configuration import old_names, sweeps
    from pipeline.runtime.files import write_text

    old_names.tell_overrides(options.overrides)
    text = sweeps.compose(options.overrides)
    params = checked(text, options.output)
    write_text(options.output, text)
    counts = Counter(trial.run for trial in params.sweep.trials.values()) if params.sweep else {}
    trials = ", ".join(f"{count} of {run}" for run, count in counts.items())
    print(f"wrote {options.output}: trials: {trials}; next: {next_command(options.output)}")
    tell_what_is_missing(params)
