"""The stage as a whole: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.configuration.layout import DataLayout
from pipeline.errors import UserError
from pipeline.report import report_stage

from .experiments import SKIPPED, TOP1, Experiment


@pytest.fixture
def copy(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A copy of the experiment that a test may damage, as working directory."""
    for part in ("data", "results", "logs"):
        shutil.copytree(experiment.folder / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    return experiment


def test_evaluation_json_holds_all_runs(experiment: Experiment) -> None:
    """Catches scores that lose their run, and hashes or counts that are not of the files."""
    body = experiment.evaluation
    rows = {(row["run"], row["probe"]): row["top1"] for row in body["scores"]}
    assert rows == {
        (run, probe): top1
        for run, both in TOP1.items()
        for probe, top1 in zip(("linear", "knn"), both, strict=True)
    }
    assert len(body["skipped"]) == 6
    assert {row["reason"] for row in body["skipped"]} == {SKIPPED}
    assert body["data"]["census"] == {"ok": 13, "missing": 1, "corrupt": 1}
    assert all(len(digest) == 64 for digest in body["data"]["shards"].values())
    assert set(body["inputs"]["weights"]) == set(TOP1)
    assert body["settings"]["name"] == experiment.params.name


def test_metrics_json_is_what_dvc_shows(experiment: Experiment) -> None:
    """Catches a metric that differs from the score, a score on val that stands under the name of
    the one on test, and columns in which nobody finds one."""
    body = json.loads((experiment.folder / experiment.layout.metrics).read_text(encoding="utf-8"))
    assert body == {
        run: {"motion": {"linear": linear, "knn": knn, "val_linear": 0.5, "val_knn": 0.5}}
        for run, (linear, knn) in TOP1.items()
    }


def test_equal_results_give_equal_bytes(copy: Experiment) -> None:
    """Catches times, orders of sets or random choices that get into the outputs."""
    first = copy.layout.report.read_bytes(), copy.layout.evaluation.read_bytes()
    report_stage.run(copy.params)
    assert (copy.layout.report.read_bytes(), copy.layout.evaluation.read_bytes()) == first


def test_the_last_line_names_the_report(experiment: Experiment) -> None:
    """Catches a path that is wrapped or missing: the newcomer copies it."""
    assert experiment.printed.splitlines()[-1] == f"report: {experiment.layout.report}"


def test_a_run_without_scores_is_named(copy: Experiment) -> None:
    """Catches a traceback, or a report that silently leaves out a run."""
    copy.layout.run("pixel").result("evaluation").unlink()
    with pytest.raises(UserError) as caught:
        report_stage.run(copy.params)
    assert "pixel" in caught.value.place
    assert caught.value.remedy == "python -m pipeline evaluate --run pixel"


@pytest.mark.parametrize("stale", ["index", "weights"])
def test_scores_of_other_data_or_weights_are_refused(copy: Experiment, stale: str) -> None:
    """Catches a table that mixes scores of an older data set or model with the present ones."""
    if stale == "index":
        path = DataLayout(copy.params.data.name).index
        path.write_text(path.read_text() + "\n")
    else:
        shutil.copy(copy.layout.run("random").weights, copy.layout.run("pixel").weights)
    with pytest.raises(UserError, match=f"another {stale}"):
        report_stage.run(copy.params)


@pytest.mark.parametrize("damage", ["metrics", "evaluated", "scores"])
def test_damaged_files_are_named(copy: Experiment, damage: str) -> None:
    """Catches a traceback where a file of an earlier stage is cut off or not what it should be."""
    run = copy.layout.run("pixel")
    path = run.metrics if damage == "metrics" else run.result("evaluation")
    if damage == "scores":
        body = json.loads(path.read_text())
        body["scores"][0]["top1"] = "most"
        path.write_text(json.dumps(body))
    else:
        path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError) as caught:
        report_stage.run(copy.params)
    assert caught.value.place == str(path)
    assert caught.value.remedy


def test_every_section_is_a_page_of_its_own(copy: Experiment) -> None:
    """Catches a section that Snakemake's report lacks, and one of before that stays behind."""
    folder = copy.layout.figures
    (folder / "gone.html").write_text("of before")
    report_stage.run(copy.params)
    whole = copy.layout.report.read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([^"]+)"', whole)
    assert sorted(path.stem for path in folder.glob("*.html")) == sorted(sections)
    for name in sections:
        alone = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert re.findall(r'<section id="([^"]+)"', alone) == [name]
        assert ("js-plotly-plot" in alone) == (name in ("curves", "classes", "time"))


def test_without_pictures_there_are_still_numbers(copy: Experiment) -> None:
    """Catches a report that fails for a damaged shard instead of saying what it could not draw."""
    for shard in DataLayout(copy.params.data.name).shards.glob("val-*.tar"):
        shard.write_bytes(shard.read_bytes()[:600])
    report_stage.run(copy.params)
    html = copy.layout.report.read_text(encoding="utf-8")
    assert "Not drawn: masks" in html
    assert "Not drawn: prototypes of sigma_mlp" in html
    assert 'id="prototypes"' not in html
    assert "sigma_mlp does best" in html
