"""What a training cost: tubes as the network itself gets them, time and memory as recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.layout import times
from pipeline.data.load import order
from pipeline.method.masks.base import stacked
from pipeline.method.tubes import split_masks
from pipeline.report import results, training_cost
from pipeline.report.shown_tables import of_benchmarks
from pipeline.runtime.files import write_json
from tests import optical_flow

from .experiments import Experiment

METHODS = composition.parse(composition.compose(("experiment=methods",)), place="test")
# Of those that need no other network, each way to see and to predict; blocks differ by clip.
NAMES = ("sigma_mlp", "sigma_dual", "sigma_redundancy", "mae_st", "everest", "adamae", "smile")


@pytest.mark.parametrize("name", [*NAMES, "mgmae"])
def test_tubes_are_counted_as_the_network_gets_them(name: str, tmp_path: Path) -> None:
    """Catches tubes that are decoded for another's sake, second masks, and what a model chooses."""
    run, clip = METHODS.runs[name], METHODS.data.clip
    if name == "mgmae":
        weights = str(optical_flow.write(tmp_path / "raft.pth"))
        mask = dataclasses.replace(run.objective.mask, weights=weights)
        objective = run.objective.model_copy(update={"mask": mask})
        run = run.model_copy(update={"objective": objective})
        clip = clip.model_copy(update={"frames": 4})  # RAFT takes its time on a CPU
    torch.manual_seed(0)
    model, seen = sigma_model(run.model, run.objective, clip), [0]

    def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[0] += arguments[0].shape[0] * arguments[0].shape[1]

    model.encoder.blocks[0].register_forward_pre_hook(count)
    predicted = 0
    for draw in range(training_cost.DRAWS):
        rng, still = order.sample_rng(0, 0, draw), np.zeros((*model.grid.clip_shape, 3), np.uint8)
        masks = [
            run.objective.mask.draw(model.grid.shape, rng, still)
            for _ in range(run.objective.masks_per_clip)
        ]
        splits = split_masks(torch.from_numpy(stacked(masks))[None], model.mask_kinds)
        for prediction in model(torch.rand(1, 3, *model.grid.clip_shape), splits):
            predicted += prediction.decoded.shape[0] * prediction.decoded.shape[1]
    draws = training_cost.DRAWS
    counted = training_cost.counts(run.objective, model.grid)
    assert counted == pytest.approx((seen[0] / draws, predicted / draws))


def test_each_run_has_what_its_training_took(experiment: Experiment) -> None:
    """Catches a cost of another run, of an untrained one, and one that is not shown."""
    with contextlib.chdir(experiment.folder):
        found = results.read(experiment.params)
        table = training_cost.table(found)
        assert table is not None
        assert table in [shown.single for shown in of_benchmarks(found)]
    lines = {line.name: line.values for line in table.runs}
    assert lines.pop("random") == (None,) * len(training_cost.COLUMNS)
    grid = table.cells(table.runs[0])
    assert [cell.text for cell in grid][:3] == ["64", "16", "48"]
    assert not any(cell.is_best for cell in grid)
    for run in found.trained:
        seconds, steps = run.pretrained["seconds"], run.pretrained["steps"]
        assert lines[run.name][3] == pytest.approx(1e3 * seconds / steps)
        assert lines[run.name][4:] == (pytest.approx(1e3 * 100 / steps), pytest.approx(900 / 1024))


@pytest.mark.parametrize(
    "sessions",
    [
        [{"finished": True, "seconds": 5.0, "cpu_seconds": 3.0, "peak_memory_mib": 500}],  # copied
        [
            {"finished": False},  # killed outright
            {"finished": True, "seconds": 70.0, "cpu_seconds": 90.0, "peak_memory_mib": 500},
        ],
    ],
)
def test_what_a_job_did_not_do_is_not_its_cost(
    experiment: Experiment, sessions: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Catches the seconds in which a finished training is found, as those of all its steps."""
    shutil.copytree(experiment.folder, tmp_path, dirs_exist_ok=True)
    with contextlib.chdir(tmp_path):
        found = results.read(experiment.params)
        body = {"sessions": [{"began": "2026-01-01T00:00:00+00:00", **each} for each in sessions]}
        write_json(times(experiment.params.name, "pretrain", found.trained[0].name), body)
        table = training_cost.table(found)
    assert table is not None
    lines = {line.name: line.values for line in table.runs}
    assert lines[found.trained[0].name][3] is not None
    assert lines[found.trained[0].name][4:] == (None, None)
    assert None not in lines[found.trained[1].name]
