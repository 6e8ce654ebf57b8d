# What the rules share: the checked configuration, and where everything lies.
import logging
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


def growing(mem_mb):
    """Return a rule's memory: half as much again at each retry (a killed job is told by nothing)."""
    return lambda wildcards, attempt: mem_mb * (attempt + 1) // 2


def weights_of(wildcards):
    """Return the files of weights that a run begins with, or whose features are its targets."""
    run = PARAMS.runs[wildcards.run]
    files = [run.weights, getattr(run.objective.target, "weights", None)]
    return [file for file in files if file]


def several_nodes(count):
    """Return a resource that a job on one node has not, for Slurm: srun starts the processes."""
    return lambda wildcards: count(trainer(wildcards)) if trainer(wildcards).nodes > 1 else None


wildcard_constraints:
    chunk=r"\d+",
    run=r"[A-Za-z0-9_-]+",


# What a job said for itself stands in the terminal already; what Snakemake says of it, a shell
# command and a status, goes to Snakemake's own log file alone.
for handler in logger.handlers:
    if not isinstance(handler, logging.FileHandler):
        handler.addFilter(joblog.is_news)


# Said once more at the end, where it is looked for: other jobs have gone on printing since.
onerror:
    print("", joblog.failures(layout.LOGS, STARTED), "", sep="\n", file=sys.stderr)
