"""The paper's numbers beside ours."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import yaml

from pipeline.configuration import composition
from pipeline.configuration.schema import Params, StoredClips
from pipeline.evaluation.segmentation import table as segmentation
from pipeline.evaluation.severe import table as severe
from pipeline.evaluation.severe.columns import COLUMNS
from pipeline.report import paper, results, tables

from .experiments import Experiment


def params(*overrides: str) -> Params:
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="test")


def test_rows_stand_beside_the_papers_data_sets_alone() -> None:
    """The paper's 61.5 beside a score on moving digits; and a column or a data set whose name here
    is another one in the settings, so that nothing ever stands beside it."""
    theirs = params("segmentation=paper", "severe=paper")
    for data in theirs.segmentation.data:
        for protocol in ("clustering", "over_clustering"):
            assert set(segmentation.paper_row(data.kind, protocol)) == set(segmentation.PAPER)
    for task in theirs.severe.tasks:
        assert isinstance(task.clips, StoredClips)
        assert set(severe.paper_row(task.column, str(task.clips.data))) == set(severe.PAPER)
    assert [*severe.PAPER_DATA] == [*COLUMNS]
    ours = params()
    for data in ours.segmentation.data:
        assert segmentation.paper_row(data.kind, "clustering") == {}
    for task in ours.severe.tasks:
        assert severe.paper_row(task.column, ours.data.name) == {}


def test_recognition_is_compared_where_data_and_protocol_are_the_papers() -> None:
    """Catches a fine-tuned score beside a linear one, and a part of a data set beside the whole."""
    finetuned = paper.recognition("ssv2", 174, frozen=False)
    assert finetuned["SIGMA-DINO"] == 70.9
    assert finetuned["AdaMAE, 800 epochs"] == 70.0
    assert "MAE-ST" not in finetuned
    assert paper.recognition("ssv2", 174, frozen=True)["VideoMAE"] == 17.5
    assert paper.recognition("k400", 400, frozen=True)["SIGMA-DINO"] == 47.5
    assert paper.recognition("k400", 10, frozen=True) == {}
    assert paper.recognition("synthetic", 8, frozen=True) == {}
    assert finetuned["SIGMA, motion-guided masks"] == 71.2
    named = {name for row in paper.METHODS.values() for name in (*row.finetuned, *row.linear)}
    assert named <= set(paper.CLASSES)


def test_the_table_has_the_papers_rows_on_its_data(experiment: Experiment) -> None:
    """Catches numbers under another probe, and rows beneath a data set of our own."""
    with contextlib.chdir(experiment.folder):
        found = results.read(experiment.params)
    table = tables.score_tables(found)[0]  # of the test split
    assert paper.lines(found, table) == []
    data = found.params.data.model_copy(update={"name": "k400"})
    theirs = replace(found, params=found.params.model_copy(update={"data": data}))
    scores = [
        tuple(score.model_copy(update={"classes": 400, "chance": None}) for score in run.scores)
        for run in found.runs
    ]
    runs = tuple(replace(run, scores=each) for run, each in zip(found.runs, scores, strict=True))
    table = tables.score_tables(replace(theirs, runs=runs))[0]
    rows = {line.name: line.values for line in paper.lines(theirs, table)}
    assert table.probes == ("linear", "knn")
    expected = {"SIGMA-DINO": 47.5, "SIGMA-MLP": 30.7, "VideoMAE": 20.7, "MGMAE": 24.9}
    expected |= {"SMILE": 56.2, "TrackMAE, pixels, 800 epochs": 25.7}
    expected |= {"TrackMAE, CLIP, 800 epochs": 55.2}
    assert rows == {
        f"{name}, ViT-B (paper)": (value, *[None] * 5) for name, value in expected.items()
    }
    sources = {line.name.split(",")[0]: line.description for line in paper.lines(theirs, table)}
    assert sources["SIGMA-DINO"] == paper.SOURCE
    assert sources["MGMAE"] == "third hand"
