"""The settings that a workflow's jobs get are those that it was planned with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.configuration import composition
from pipeline.configuration.layout import ExperimentLayout
from pipeline.errors import UserError
from pipeline.planning import snapshot


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's params.yaml, of the tiny experiment."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    compose(path)
    return path


def compose(path: Path, *overrides: str) -> None:
    path.write_text(composition.compose(["experiment=tiny", *overrides]), encoding="utf-8")


def test_a_job_gets_what_was_planned(source: Path) -> None:
    """Catches a job that takes on what was composed since, or a dry run that leaves a file."""
    planned = snapshot.planned(source)
    assert not planned.path.exists()
    planned.write()
    compose(source, "trainer.epochs=99")
    handed = snapshot.handed_on({snapshot.VARIABLE: str(planned.path)})
    assert handed == planned
    assert composition.load(planned.path) == planned.params
    assert planned.path.parent.parent == ExperimentLayout("tiny").folder


def test_other_settings_are_another_file(source: Path) -> None:
    """Catches two workflows of one experiment that overwrite each other's settings."""
    first = snapshot.planned(source)
    first.write()
    compose(source, "trainer.epochs=99")
    second = snapshot.planned(source)
    second.write()
    assert composition.load(first.path) == first.params != second.params
    compose(source)
    assert snapshot.planned(source).path == first.path


def test_a_job_without_its_settings_says_so(source: Path) -> None:
    """Catches a job on another machine that falls back to params.yaml in silence."""
    with pytest.raises(UserError, match="was not told with which settings"):
        snapshot.handed_on({})


def test_an_edited_snapshot_is_refused(source: Path) -> None:
    """Catches a job that believes a file which is not the one that was planned with."""
    planned = snapshot.planned(source)
    planned.write()
    compose(planned.path, "trainer.epochs=99")
    with pytest.raises(UserError, match="were changed while it runs"):
        snapshot.handed_on({snapshot.VARIABLE: str(planned.path)})


@pytest.mark.parametrize(
    ("override", "stage", "differs"),
    [
        ("runs.pixel.objective.mask.ratio=0.5", "pretrain@pixel", True),
        ("runs.pixel.objective.mask.ratio=0.5", "pretrain@random", False),
        ("runs.pixel.objective.mask.ratio=0.5", "decode", False),
        ("data.decode.crf=3", "decode", True),
        ("data.decode.crf=3", "dvc.yaml:decode", True),
        ("~runs.pixel", "evaluate@pixel", True),
        ("data.decode.crf=3", "a stage of their own", False),
    ],
)
def test_dvc_records_no_stage_whose_settings_changed_meanwhile(
    source: Path, override: str, stage: str, differs: bool
) -> None:
    """Catches dvc.lock naming settings that a result was not made with."""
    planned = snapshot.planned(source).params
    assert snapshot.differs_for_dvc(planned, stage, source) is None
    compose(source, override)
    assert bool(snapshot.differs_for_dvc(planned, stage, source)) == differs
