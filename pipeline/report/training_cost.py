"""What each run's training cost: tubes that it saw and predicted, time and memory."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.configuration.build import tube_grid
from pipeline.configuration.schema import Objective
from pipeline.data.load import order
from pipeline.evaluation.table import Column, Line, Table
from pipeline.method.masks.base import Mask
from pipeline.method.tubes import TubeGrid, splits_of_still
from pipeline.report.results import Results, RunResult
from pipeline.report.times import Job, jobs_of_runs

DRAWS = 16  # of the masks of a clip, whose mean is shown
COLUMNS = (
    # None is best: fewer tubes are a choice, and times are of a machine that may have been shared.
    Column("tubes of a clip", "in all", digits=0, is_neutral=True),
    Column("tubes of a clip", "seen", digits=0, is_neutral=True),
    Column("tubes of a clip", "predicted", digits=0, is_neutral=True),
    Column("a step", "ms", is_error=True, digits=1, is_neutral=True),
    Column("a step", "core ms", is_error=True, digits=1, is_neutral=True),
    Column("the job", "GiB", is_error=True, digits=2, is_neutral=True),
)


def table(results: Results) -> Table | None:
    """A line for each run; None where nothing was trained."""
    if not any(run.settings.trainer.epochs for run in results.runs):
        return None
    jobs = jobs_of_runs(results, "pretrain")
    return Table(
        id="training-cost",
        title="Cost of the trainings",
        unit="tubes, time and memory",
        remark="Tubes are counted over all masks of a clip; where clips have unequally many it is "
        "their mean. Time is that of the clock, which jobs beside it lengthen, and of all cores, "
        "starting and online evaluation included. Memory is the most that a process of the job "
        "held at once, not that of an accelerator. Of a training that was copied, or whose process "
        "was killed outright, cores and memory are not known.",
        columns=COLUMNS,
        runs=tuple(_line(run, results, jobs.get(run.name)) for run in results.runs),
    )


def _line(run: RunResult, results: Results, job: Job | None) -> Line:
    if not run.settings.trainer.epochs:
        return Line(run.name, (None,) * len(COLUMNS))
    grid = tube_grid(run.settings.model, results.params.data.clip)
    seen, predicted = counts(run.settings.objective, grid)
    # The last job may have found the training ended, or gone on after one that could say nothing.
    did_all = job is not None and not job.unknown and job.seconds >= run.pretrained["seconds"]
    cpu = job.cpu_seconds if job and did_all else None
    memory = job.memory_mib if job and did_all else None
    return Line(
        run.name,
        (
            grid.count,
            seen,
            predicted,
            _milliseconds(run.pretrained["seconds"], run),
            _milliseconds(cpu, run),
            None if memory is None else memory / 1024,
        ),
    )


def _milliseconds(seconds: float | None, run: RunResult) -> float | None:
    """A step's share of the seconds of its training."""
    steps = run.pretrained.get("steps")
    return None if seconds is None or not steps else 1e3 * seconds / steps


def _evidence_shape(mask: Mask, grid: TubeGrid) -> tuple[int, ...]:
    """Of what a mask decides by, for one clip (`Mask.select`): of embeddings, those of width 1."""
    if mask.by_flow:
        frames, height, width = grid.clip_shape
        return frames - 1, 2, height, width
    return (grid.count,) if mask.learns or mask.by_attention else (grid.count, 1)


def counts(objective: Objective, grid: TubeGrid) -> tuple[float, float]:
    """Return how many tubes of a clip the encoder sees, and how many the loss compares.

    Over all masks of the clip, the mean of a few draws. A model that decides itself decides on
    random numbers here: how many tubes it chooses does not depend on them.
    """
    mask = objective.mask
    totals = np.zeros(2)
    for draw in range(DRAWS):
        rng = order.sample_rng(0, 0, draw)
        for part in splits_of_still(mask, grid, rng, objective.masks_per_clip):
            if isinstance(part, torch.Tensor):
                generator = torch.Generator().manual_seed(draw)
                shape = (len(part), *_evidence_shape(mask, grid))
                part = mask.select(torch.rand(shape, generator=generator), part, grid.shape)
            predicted = part.predicted if part.counted is None else part.counted
            compared = part.visible if objective.alignment else predicted
            totals += part.visible.numel(), compared.numel()
    seen, compared_in_all = totals / DRAWS
    return float(seen), float(compared_in_all)
