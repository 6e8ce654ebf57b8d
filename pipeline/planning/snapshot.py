"""The settings that a workflow was planned with, kept for its jobs.

`params.yaml` may be composed anew while a workflow runs. So the Snakefile reads it once; what it
read is written beside the results when the first job is about to start, and every job is told to
read that. A job on another machine reads the Snakefile again: it finds the same file by a variable
of the environment, which Snakemake hands on to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration import composition, layout, stages
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.runtime.files import write_text

VARIABLE = "PIPELINE_PARAMS"  # in a job's environment: the file with its workflow's settings


@dataclass(frozen=True)
class Snapshot:
    """A workflow's settings: checked, as text, and the file that its jobs read them from."""

    params: Params
    text: str
    path: Path

    def write(self) -> None:
        """Write the file, unless an earlier workflow of the same settings did."""
        if not self.path.is_file() or self.path.read_text(encoding="utf-8") != self.text:
            write_text(self.path, self.text)


def planned(source: Path | str) -> Snapshot:
    """Read the settings of a workflow that is being planned; nothing is written.

    Raises:
        UserError: where `source` is missing, or not what the schema allows.
    """
    text = composition.read(source)
    params = composition.parse(text, place=str(source))
    return Snapshot(params, text, layout.ExperimentLayout(params.name).planned(_digest(text)))


def handed_on(environment: Mapping[str, str]) -> Snapshot:
    """Read, in a job on its own, the settings that its workflow was planned with.

    Raises:
        UserError: where they did not reach it, or are no longer the same.
    """
    if VARIABLE not in environment:
        raise UserError(
            "this job was not told with which settings its workflow was planned",
            place=VARIABLE,
            remedy="let the scheduler hand the environment on to jobs (Slurm: --export=ALL)",
        )
    path = Path(environment[VARIABLE])
    text = composition.read(path)
    if _digest(text) != path.stem:
        raise UserError(
            "the settings of this workflow were changed while it runs",
            place=str(path),
            remedy="stop the workflow and start it again",
        )
    return Snapshot(composition.parse(text, place=str(path)), text, path)


def differs_for_dvc(planned: Params, stage: str, source: Path | str) -> UserError | None:
    """Why DVC may not record the stage that has just ended; None where it may.

    DVC notes as a stage's settings what `source` says at its end. `stage` is DVC's name of it:
    that of a rule, and for a run `pretrain@RUN`. Of those of further data sets (`further_...`) all
    settings count.
    """
    name, _, run = stage.rpartition(":")[2].partition("@")
    if name not in stages.STAGES and not name.startswith("further_"):
        return None
    try:
        now = composition.load(source)
        if now == planned:
            return None
        if name in stages.STAGES and (
            stages.settings(now, name, run) == stages.settings(planned, name, run)
        ):
            return None
    except (UserError, KeyError):  # not even the run is there any more
        pass
    return UserError(
        f"what {stage} reads of the settings was changed while it ran, so DVC would note the new "
        "ones beside a result of those before",
        place=str(source),
        remedy="compose the settings that you want, then dvc repro again; it goes on",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
