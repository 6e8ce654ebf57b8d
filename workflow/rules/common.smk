# What the rules share: the checked configuration, and where everything lies.
import os
import sys
import time
from pathlib import Path

from pipeline import joblog
from pipeline.configuration import composition, layout, stages
from pipeline.errors import UserError

try:
    PARAMS = composition.load("params.yaml")
    if not Path(PARAMS.data.rows_from).is_file():  # Snakemake's message would not say of which key
        raise UserError(
            "there is no list of videos",
            place=PARAMS.data.rows_from,
            remedy="write it there, or give data.manifest another path",
        )
except UserError as error:
    sys.exit(f"error: {error}")

DATA = layout.DataLayout(PARAMS.data.name)
EXPERIMENT = layout.ExperimentLayout(PARAMS.name)
CHUNKS = range(PARAMS.data.chunks)
RUNS = [EXPERIMENT.run(name) for name in PARAMS.runs]

STARTED = time.time()

# `python` in the rules is the one that runs Snakemake, whether or not its environment is active.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def trainer(wildcards):
    """Return the trainer's settings of the run that a job is for."""
    return PARAMS.runs[wildcards.run].trainer


wildcard_constraints:
    chunk=r"\d+",
    run=r"[A-Za-z0-9_-]+",


# Said once more at the end, where it is looked for: other jobs have gone on printing since.
onerror:
    print("", joblog.failures(layout.LOGS, STARTED), "", sep="\n", file=sys.stderr)
