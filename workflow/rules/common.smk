# What the rules share: the checked configuration, and where everything lies.
import os
import sys
from pathlib import Path

from pipeline.configuration import composition, layout, stages
from pipeline.errors import UserError

try:
    PARAMS = composition.load("params.yaml")
except UserError as error:
    sys.exit(f"error: {error}")

DATA = layout.DataLayout(PARAMS.data.name)
EXPERIMENT = layout.ExperimentLayout(PARAMS.name)
CHUNKS = range(PARAMS.data.chunks)
RUNS = [EXPERIMENT.run(name) for name in PARAMS.runs]

# `python` in the rules is the one that runs Snakemake, whether or not its environment is active.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ["PATH"]]
)


def trainer(wildcards):
    """Return the trainer's settings of the run that a job is for."""
    return PARAMS.runs[wildcards.run].trainer


wildcard_constraints:
    chunk=r"\d+",
    run=r"[A-Za-z0-9_-]+",
