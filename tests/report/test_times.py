"""Where time went: what is shown is what was recorded, and what was not is said."""

from __future__ import annotations

import contextlib
import json

import pytest

from pipeline.report import results, time_chart, times
from pipeline.report.seeds import seed_groups
from pipeline.report.times import StageTime

from .experiments import TOP1, Experiment


@pytest.fixture
def stages(experiment: Experiment) -> dict[str, StageTime]:
    with contextlib.chdir(experiment.folder):
        found = times.stage_times(results.read(experiment.params))
    return {stage.stage: stage for stage in found}


def test_sessions_of_an_interrupted_job_add_up(stages: dict[str, StageTime]) -> None:
    """Catches a resumed training that counts with its last process alone."""
    pretrain = stages["pretrain"]
    assert [job.name for job in pretrain.jobs] == list(TOP1)
    assert pretrain.seconds == pytest.approx(3 * 61.0)
    assert (pretrain.longest, pretrain.cpu_seconds) == (61.0, 300.0)
    assert (pretrain.memory_mib, pretrain.interrupted, pretrain.missing) == (900, 3, 0)


def test_what_was_not_timed_is_counted(stages: dict[str, StageTime]) -> None:
    """Catches a sum that passes for the whole."""
    assert (stages["download"].of, stages["download"].missing) == (2, 1)
    assert (stages["decode"].jobs, stages["decode"].missing) == ((), 2)
    assert "report" not in stages


def test_a_manifest_stands_in(stages: dict[str, StageTime]) -> None:
    """Catches a stage without time though its manifest has it: results that came by DVC."""
    assert stages["evaluate"].seconds == pytest.approx(3 * 2.0)
    assert stages["evaluate"].cpu_seconds is None


def test_the_chart_holds_every_second(stages: dict[str, StageTime], experiment: Experiment) -> None:
    """Catches a run or a chunk that is left out of the stack."""
    with contextlib.chdir(experiment.folder):
        found = seed_groups(results.read(experiment.params).runs)
    figure = time_chart.chart(list(stages.values()), found)
    assert figure is not None
    drawn: dict[str, float] = {}
    for bar in json.loads(figure.json)["data"]:
        for stage, seconds in zip(bar["y"], bar["x"], strict=True):
            drawn[stage] = drawn.get(stage, 0.0) + seconds
    assert drawn == {
        name: pytest.approx(stage.seconds) for name, stage in stages.items() if stage.jobs
    }
    assert time_chart.chart([], found) is None
