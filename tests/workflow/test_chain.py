"""The whole chain, from the embedded data set to the report, with the real commands."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout, ExperimentLayout

from .workspace import Workspace

DATA = DataLayout("synthetic_tiny")
TINY_RESULTS = ExperimentLayout("tiny")
RUNS = ("sigma_mlp", "pixel", "random")


def test_the_chain_ends_with_table_and_report(finished: Workspace, first_output: str) -> None:
    """Catches a stage that does not fit the next, and a run that ends without its results."""
    said = first_output
    assert "Traceback" not in said
    assert "results/tiny/report.html" in said
    scores = json.loads((finished.folder / TINY_RESULTS.evaluation).read_text(encoding="utf-8"))
    assert {row["run"] for row in scores["scores"]} == set(RUNS)
    page = (finished.folder / TINY_RESULTS.report).read_text(encoding="utf-8")
    for run in RUNS:
        assert run in page
        assert f"[pretrain {run}]" in said  # progress reaches the terminal
        log = finished.folder / "logs" / "tiny" / f"pretrain-{run}.log"
        assert f"[pretrain {run}]" in log.read_text(encoding="utf-8")


def test_runs_are_pretrained_side_by_side(first_output: str) -> None:
    """Catches a rule that takes both cores, so that runs wait for each other."""
    said = first_output
    first_end = said.index("(Rule: pretrain)")
    begun = [run for run in RUNS if 0 <= said.find(f"[pretrain {run}]") < first_end]
    assert len(begun) >= 2


@pytest.mark.system
def test_a_second_run_does_nothing(finished: Workspace) -> None:
    """Catches a rule that never is up to date."""
    files = [p for p in (finished.folder / "results").rglob("*") if p.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert "Nothing to be done" in finished.snakemake().stdout
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert finished.planned() == {}


@pytest.mark.system
def test_make_run_shows_the_table_once(finished: Workspace, tmp_path: Path) -> None:
    """Catches a table that is shown twice or, where nothing was to be done, not at all."""
    again = finished.copy(tmp_path / "again")
    (again.folder / ".venv").mkdir()  # as set up, so that nothing is installed
    shutil.copy(again.folder / "requirements.lock", again.folder / ".venv" / "installed.lock")
    (again.folder / TINY_RESULTS.report).unlink()
    for planned in ({"report": 1}, {}):
        assert again.planned() == planned
        binaries = f"BIN={Path(sys.executable).parent}"
        said = again.run("make", "run", "VERBOSE=0", binaries).stdout
        assert said.count("split test, % of clips right") == 2, said  # labels motion and digit
        assert said.count(f"report: {TINY_RESULTS.report}") == 1


@pytest.mark.system
def test_videos_without_labels(finished: Workspace, tmp_path: Path) -> None:
    """Catches a probe that fails, or is silently left out, where the list has no labels."""
    mine = finished.copy(tmp_path / "mine")
    videos = sorted((mine.folder / "downloads").rglob("*.mp4"))[:6]
    lines = [f"{path.stem},{path.relative_to(mine.folder)}" for path in videos]
    (mine.folder / "list.csv").write_text("\n".join(["id,path", *lines, "gone,gone.mp4", ""]))
    given = ("name=mine", "data=folder", "data.name=mine", "data.manifest=list.csv")
    mine.compose(*given, "data.clip.stride=1", "~runs.sigma_mlp", "~runs.random")
    said = mine.snakemake().stdout
    assert "skipped" in said
    results = ExperimentLayout("mine")
    found = json.loads(
        (mine.folder / results.run("pixel").result("evaluation")).read_text(encoding="utf-8")
    )
    assert found["scores"] == []
    probes = {"linear", "attentive", "knn", "finetune"}
    assert {row["probe"] for row in found["skipped"]} == probes
    assert found["census"] == {"ok": 6, "missing": 1}
    assert "skipped" in (mine.folder / results.report).read_text(encoding="utf-8")
    lost = (mine.folder / DataLayout("mine").lost).read_text(encoding="utf-8")
    assert "gone,missing" in lost
