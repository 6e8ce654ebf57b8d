"""The paper's numbers beside ours."""

from __future__ import annotations

import yaml

from pipeline.configuration import composition
from pipeline.configuration.schema import Params, StoredClips
from pipeline.evaluation.severe.columns import COLUMNS
from pipeline.reporting import paper


def params(*overrides: str) -> Params:
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="test")


def test_rows_stand_beside_the_papers_data_sets_alone() -> None:
    """The paper's 61.5 beside a score on moving digits; and a column or a data set whose name here
    is another one in the settings, so that nothing ever stands beside it."""
    theirs = params("segmentation=paper", "severe=paper")
    for data in theirs.segmentation.data:
        for protocol in ("clustering", "over_clustering"):
            assert set(paper.segmentation(data.kind, protocol)) == set(paper.SEGMENTATION)
    for task in theirs.severe.tasks:
        assert isinstance(task.clips, StoredClips)
        assert set(paper.severe(task.column, str(task.clips.data))) == set(paper.SEVERE)
    assert [*paper.SEVERE_DATA] == [*COLUMNS]
    ours = params()
    for data in ours.segmentation.data:
        assert paper.segmentation(data.kind, "clustering") == {}
    for task in ours.severe.tasks:
        assert paper.severe(task.column, ours.data.name) == {}
